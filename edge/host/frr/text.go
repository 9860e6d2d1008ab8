package frr

import (
	"slices"
	"strings"
)

// ignored are lines of a running configuration that say what the box is and not
// what we ask of it; forwarding is the host's own.
var ignored = []string{
	"frr version", "frr defaults traditional", "hostname", "domainname", "service integrated-vtysh-config",
	"ip forwarding", "no ip forwarding", "ipv6 forwarding", "no ipv6 forwarding",
	"Building configuration", "Current configuration", "log ", "password", "enable password",
}

func isIgnored(line string) bool {
	return slices.ContainsFunc(ignored, func(s string) bool { return strings.HasPrefix(line, s) })
}

// ofTheBox returns the ignored lines of a running configuration.
func ofTheBox(text string) string {
	var out strings.Builder
	for _, line := range strings.Split(text, "\n") {
		if isIgnored(line) && !strings.HasPrefix(line, "Building") && !strings.HasPrefix(line, "Current") {
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}

// lines flattens a configuration: every line with the lines it stands under,
// joined by " / ". Order says nothing in FRR but by sequence numbers, which are
// part of the lines; so do comments and ends of blocks.
func lines(text string) []string {
	type level struct {
		indent int
		line   string
	}
	var stack []level
	var out []string
	for _, raw := range strings.Split(text, "\n") {
		line := strings.Join(strings.Fields(raw), " ")
		if line == "" || line == "end" || line == "exit" || strings.HasPrefix(line, "exit-") ||
			strings.HasPrefix(line, "!") || strings.HasPrefix(line, "#") {
			continue
		}
		indent := len(raw) - len(strings.TrimLeft(raw, " "))
		for len(stack) > 0 && stack[len(stack)-1].indent >= indent {
			stack = stack[:len(stack)-1]
		}
		if len(stack) == 0 && isIgnored(line) {
			continue
		}
		path := line
		if len(stack) > 0 {
			path = stack[len(stack)-1].line + " / " + line
		}
		stack = append(stack, level{indent, path})
		if path != "bfd" { // a heading, and bfdd never forgets it
			out = append(out, path)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// empty says whether a configuration asks for nothing.
func empty(text string) bool { return len(lines(text)) == 0 }

// compare lists what have lacks ("+") and has too much ("-") against want.
func compare(have, want string) []string {
	h, w := lines(have), lines(want)
	var diff []string
	for _, line := range w {
		if _, ok := slices.BinarySearch(h, line); !ok {
			diff = append(diff, "+ "+line)
		}
	}
	for _, line := range h {
		if _, ok := slices.BinarySearch(w, line); !ok {
			diff = append(diff, "- "+line)
		}
	}
	return diff
}
