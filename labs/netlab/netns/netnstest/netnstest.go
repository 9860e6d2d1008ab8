// Package netnstest makes network namespaces for a test, until it ends.
package netnstest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// made tells the namespaces of one test program apart.
var made atomic.Int64

// Spaces makes empty namespaces with their loopbacks up and returns their full
// names. Without root it skips, aloud.
func Spaces(t *testing.T, names ...string) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED ALOUD: network namespaces need root")
	}
	out := make([]string, len(names))
	for i, name := range names {
		full := fmt.Sprintf("t%d-%d-%s", os.Getpid(), made.Add(1), name)
		Batch(t, "", "netns add "+full+"\n")
		t.Cleanup(func() { Batch(t, "", "netns delete "+full+"\n") })
		Batch(t, full, "link set lo up\n")
		out[i] = full
	}
	return out
}

// Cable joins two namespaces by a veth pair; each end gets its addresses, IPv6
// ones usable at once, and comes up.
func Cable(t *testing.T, a, b End) {
	t.Helper()
	Batch(t, "", fmt.Sprintf("link add name %s netns %s type veth peer name %s netns %s\n", a.Port, a.Space, b.Port, b.Space))
	for _, e := range []End{a, b} {
		lines := fmt.Sprintf("link set %s up\n", e.Port)
		for _, p := range e.Addresses {
			lines += fmt.Sprintf("addr add %s dev %s", p, e.Port)
			if strings.Contains(p, ":") {
				lines += " nodad"
			}
			lines += "\n"
		}
		Batch(t, e.Space, lines)
	}
}

// End is one end of a cable.
type End struct {
	Space, Port string
	Addresses   []string // with their lengths
}

// Batch runs lines of ip(8) in a namespace; "" is the machine's own.
func Batch(t *testing.T, space, lines string) {
	t.Helper()
	args := []string{"-batch", "-"}
	if space != "" {
		args = append([]string{"-n", space}, args...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s\n%s", args, err, out, lines)
	}
}
