//go:build lab

package linux

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/hosttest"
)

// Environment of a child of TestCrash.
const (
	dirEnv  = "WARDNET_LINUX_DIR"
	stepEnv = "WARDNET_LINUX_STEP" // where it kills itself, while it applies otherWard
	wantEnv = "WARDNET_LINUX_WANT" // "old" or "new": what a child applies and compares
)

// heals is how long a box may take from the agent's start to a whole
// configuration.
const heals = 5 * time.Second

// TestCrash kills the host before each step of a change from ward to otherWard
// and lets a new process bring the box to the one or the other; then it takes
// the whole namespace away. All the while, packets that both deny must not pass.
func TestCrash(t *testing.T) {
	if hosttest.Inside(t) {
		child(t)
		return
	}
	space := hosttest.Make(t, "out")
	plug(t, space)
	dir := t.TempDir()
	life := func(env ...string) (string, error) {
		t.Helper()
		out, err := hosttest.Again(t, space, append(env, dirEnv+"="+dir)...).CombinedOutput()
		return string(out), err
	}
	leaks := watchLeaks(t, space)
	must := func(what string, env ...string) {
		t.Helper()
		out, err := life(env...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, err, out)
		}
		if _, took, ok := strings.Cut(out, "WHOLE IN "); ok {
			t.Logf("%s: whole %s after the start, %d denied packets passed so far", what, strings.Fields(took)[0], leaks.passed.Load())
		}
	}
	var names []string
	for _, s := range (&Host{}).steps() {
		names = append(names, s.name)
	}
	tight := func(when string) {
		t.Helper()
		sent, passed := leaks.end()
		if sent == 0 || passed > 0 {
			t.Errorf("%s: %d of %d packets passed that both configurations deny: %v", when, passed, sent, leaks.seen)
			return
		}
		t.Logf("%s: none of %d denied packets passed", when, sent)
	}
	must("first life", wantEnv+"=old")
	for i, step := range names {
		out, err := life(stepEnv + "=" + step)
		if err == nil || !strings.Contains(out, "DYING AT "+step) {
			t.Fatalf("the host did not die at %s: %v\n%s", step, err, out)
		}
		want := []string{"old", "new"}[i%2]
		must("killed before "+step, wantEnv+"="+want)
		if want == "new" {
			must("back to the old one", wantEnv+"=old")
		}
	}
	tight("killed before each step")
	for _, want := range []string{"old", "new"} {
		hosttest.Remake(t, space)
		hosttest.Remake(t, space+"-out")
		plug(t, space)
		leaks = watchLeaks(t, space)
		must("power cut", wantEnv+"="+want)
		tight("power cut, then " + want)
	}
	// The packets would pass, and be seen, if the box let them.
	leaks = watchLeaks(t, space)
	hosttest.Run(t, "ip", "netns", "exec", space, "nft", "flush", "ruleset")
	hosttest.Run(t, "ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	hosttest.Eventually(t, hosttest.Within(t, heals), "denied packets pass a box without a filter", func() bool { return leaks.passed.Load() > 0 })
	leaks.end()
}

// child is one life of a box's agent.
func child(t *testing.T) {
	start := time.Now()
	h := open(t, os.Getenv(dirEnv))
	step := os.Getenv(stepEnv)
	if step != "" {
		apply(t, h, ward())
		h.between = func(s string) {
			if s == step {
				os.Stdout.WriteString("DYING AT " + s + "\n")
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // does not return
			}
		}
		apply(t, h, otherWard())
		t.Fatal("it lives")
	}
	want := map[string]func() edge.Config{"old": ward, "new": otherWard}[os.Getenv(wantEnv)]()
	apply(t, h, want)
	equal(t, h, want)
	took := time.Since(start)
	if limit := hosttest.Within(t, heals); took > limit {
		t.Errorf("whole only %s after the start, want %s", took, limit)
	}
	os.Stdout.WriteString("WHOLE IN " + took.Round(time.Millisecond).String() + "\n")
}
