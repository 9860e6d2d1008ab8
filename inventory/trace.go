package inventory

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// traced adds the faults of an expansion to those of the expander, each at the
// field that was written: a site's own, its value of a variable, or the
// profile's, which many sites may share and which is then told once.
func (x *expander) traced(expansion faultList) error {
	if len(x.in.Profiles) == 0 && len(x.faults.list) == 0 {
		return expansion.err()
	}
	t := tracer{expander: x, known: map[string]bool{}, at: map[[2]string]int{}, more: map[int]int{}, from: map[int]map[string]Derivation{}}
	for _, f := range x.faults.list {
		t.known[f.Field] = true
	}
	for _, f := range expansion.list {
		t.add(f)
	}
	for i, n := range t.more {
		x.faults.list[i].Text += fmt.Sprintf(" (and at %d more)", n)
	}
	x.faults.more += expansion.more
	return x.faults.err()
}

// tracer leads the faults of an expansion back to what was written.
type tracer struct {
	*expander
	known map[string]bool               // fields with a fault
	at    map[[2]string]int             // where a fault of a shared field and text is in the list
	more  map[int]int                   // how many like it were left out
	from  map[int]map[string]Derivation // by site
}

func (t *tracer) add(f Fault) {
	i, key, ok := t.written(f.Field)
	if !ok {
		if strings.HasPrefix(f.Field, "profiles[") {
			t.known[f.Field] = true
		}
		t.faults.add(f)
		return
	}
	s := t.in.Sites[i]
	flat := t.flat[s.Profile]
	src, found := t.source(i, key)
	shared := found && src.Profile != ""
	switch missing := !found && (key == "segments" || strings.HasSuffix(key, ".mtu")); {
	case (flat == nil || flat.broken || t.broken[i]) && (shared || missing):
		return // it follows from a fault that is told already
	case missing && key == "segments":
		f.Field = fmt.Sprintf("sites[%d].profile", i)
		f.Text += fmt.Sprintf(" (the site's own and those of profile %s)", s.Profile)
	case !shared:
	case src.Variable != "" && !src.Default:
		f.Field = fmt.Sprintf("sites[%d].variables.%s", i, src.Variable)
		f.Text += fmt.Sprintf(" (%s: %s)", key, src)
	case key == "opens" && strings.Contains(f.Field, ".opens["):
		return // told where the profile is checked
	default:
		f.Field = src.At
		f.Text += fmt.Sprintf(" (%s)", src)
	}
	if within(f.Field, t.known) {
		return
	}
	if shared {
		_, text, _ := strings.Cut(f.Text, ": ") // without the name of the site or circuit
		same := [2]string{f.Field, strings.ReplaceAll(text, strconv.Quote(string(s.ID)), "")}
		if j, dup := t.at[same]; dup {
			t.more[j]++
			return
		}
		if len(t.faults.list) < maxFaults {
			t.at[same] = len(t.faults.list)
		}
	}
	t.faults.add(f)
}

// source is where a field of a site comes from, or the nearest thing around it
// that has a source.
func (t *tracer) source(i int, key string) (Derivation, bool) {
	if t.flat[t.in.Sites[i].Profile] == nil {
		return Derivation{}, false
	}
	if t.from[i] == nil {
		t.from[i] = map[string]Derivation{}
		for _, s := range t.sources(i) {
			t.from[i][s.Field] = s
		}
	}
	for {
		if s, ok := t.from[i][key]; ok {
			return s, true
		}
		dot := strings.LastIndexByte(key, '.')
		if dot < 0 {
			return Derivation{}, false
		}
		key = key[:dot]
	}
}

// written finds the site with a profile that a field of the expansion belongs
// to, and the field's name in [Derivation.Field].
func (x *expander) written(field string) (site int, key string, ok bool) {
	noun, rest, _ := strings.Cut(field, "[")
	i, rest := index(rest)
	switch noun {
	case "sites":
		if i < 0 || i >= len(x.in.Sites) {
			return 0, "", false
		}
		out := x.out.Sites[i]
		list, rest, _ := strings.Cut(rest, "[")
		j, rest := index(rest)
		switch key = list; {
		case list == "segments" && j >= 0 && j < len(out.Segments):
			key = joinKey(list, string(out.Segments[j].Kind), rest)
		case list == "uplinks" && j >= 0 && j < len(out.Uplinks):
			key = joinKey(list, out.Uplinks[j].Name, rest)
		}
	case "circuits":
		if i < 0 || i >= len(x.in.Circuits) {
			return 0, "", false
		}
		k := x.in.Circuits[i]
		key = joinKey(noun, string(k.ID), rest)
		i = slices.IndexFunc(x.in.Sites, func(s Site) bool { return s.ID == k.Site })
	default:
		return 0, "", false
	}
	return i, key, i >= 0 && x.in.Sites[i].Profile != ""
}

// index cuts "3].rest" into 3 and "rest"; -1 where there is no number.
func index(s string) (n int, rest string) {
	num, rest, _ := strings.Cut(s, "]")
	n, err := strconv.Atoi(num)
	if err != nil {
		return -1, ""
	}
	return n, strings.TrimPrefix(rest, ".")
}

// joinKey is the name of a field of a listed thing, without what is inside it.
func joinKey(list, name, field string) string {
	field, _, _ = strings.Cut(field, "[")
	return strings.TrimSuffix(list+"."+name+"."+field, ".")
}
