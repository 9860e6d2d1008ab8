package pki_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// insideVar tells a test binary that it runs in a network namespace of its own.
const insideVar = "WARDNET_TEST_NAMESPACE"

// inNamespace runs the test t again in a new network namespace, where lines of
// commands have been run first. It says whether this is that run.
func inNamespace(t *testing.T, lines ...string) (inside bool) {
	t.Helper()
	if os.Getenv(insideVar) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: a network namespace with a packet filter")
	}
	for _, tool := range []string{"ip", "nft", "ethtool"} {
		switch _, err := exec.LookPath(tool); {
		case errors.Is(err, exec.ErrNotFound):
			t.Skipf("needs %s, which is not installed", tool)
		case err != nil:
			t.Fatal(err)
		}
	}
	ns := fmt.Sprintf("w5-%d", os.Getpid())
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	run("ip", "netns", "add", ns)
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
			t.Errorf("remove namespace %s: %v\n%s", ns, err, out)
		}
	})
	for _, l := range lines {
		run("ip", append([]string{"netns", "exec", ns}, strings.Fields(l)...)...)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", ns, self, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideVar+"="+ns)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in namespace %s: %v\n%s", ns, err, out)
	}
	return false
}

// A path that loses every packet over 1,000 bytes and sends no word of it: TCP
// connects, TLS stalls. The device finds out, says so, and enrols all the same.
func TestLargePacketsLost(t *testing.T) {
	if !inNamespace(t,
		"ip link set lo mtu 1500 up",
		"ethtool -K lo tso off gso off gro off",
		"nft add table inet w5",
		"nft add chain inet w5 out { type filter hook output priority 0 ; }",
		"nft add rule inet w5 out meta length > 1000 counter drop",
	) {
		return
	}
	a := newAuthority(t, pki.Config{})
	b := a.bundle("e-1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir, begin := t.TempDir(), time.Now()
	if _, err := (enrol.Client{Timeout: 2 * time.Second}).Enrol(ctx, b, dir); err != nil {
		t.Fatal(err)
	}
	t.Logf("enrolled after %s", time.Since(begin).Round(time.Millisecond))
	own, err := enrol.ReadTimeline(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := names(own)
	for i, line := range got {
		if line == "tls failed mtu by device" {
			if i+1 < len(got) && got[i+1] == "tls passed by device" {
				return
			}
		}
	}
	t.Errorf("the story has no lost packets:\n%s", strings.Join(got, "\n"))
}
