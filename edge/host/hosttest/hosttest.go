// Package hosttest runs tests of the Linux host in network namespaces of their
// own: a test enters one, and may ask for more to put other boxes in.
package hosttest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Environment of the process inside.
const (
	nameEnv  = "WARDNET_HOSTTEST_NAME"
	spaceEnv = "WARDNET_HOSTTEST_SPACE"
)

// Enter runs the calling test again in a fresh network namespace, beside others
// named others, and returns true there. Outside it returns false when that run
// is over, having passed on its verdict. The namespaces end with the test, and
// so does what still runs in them. Without root it skips, aloud.
func Enter(t *testing.T, others ...string) bool {
	t.Helper()
	if os.Getenv(nameEnv) == t.Name() {
		return true
	}
	base := Make(t, others...)
	cmd := Again(t, base)
	out, err := cmd.CombinedOutput()
	t.Logf("in namespace %s:\n%s", base, out)
	if err != nil {
		t.Fatalf("the test inside failed: %v", err)
	}
	return false
}

// Again is a command that runs the calling test inside the namespace of base.
func Again(t *testing.T, base string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", base, self, "-test.run", "^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(append(os.Environ(), nameEnv+"="+t.Name(), spaceEnv+"="+base), env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Space is the name of the test's own namespace, or of the other one named so.
func Space(other string) string { return join(os.Getenv(spaceEnv), other) }

func join(base, other string) string {
	if other == "" {
		return base
	}
	return base + "-" + other
}

// makeOne makes one namespace, until the test ends.
func makeOne(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() { Remove(t, name) })
	Run(t, "ip", "netns", "add", name)
	Run(t, "ip", "-n", name, "link", "set", "lo", "up")
}

// Remake empties a namespace as a power cut does: its processes are killed, it
// is removed and made again. It works outside of Enter only.
func Remake(t *testing.T, name string) {
	t.Helper()
	Remove(t, name)
	Run(t, "ip", "netns", "add", name)
	Run(t, "ip", "-n", name, "link", "set", "lo", "up")
}

// Make makes namespaces for a test that works from outside of them, and returns
// the name of the first. Without root it skips, aloud.
func Make(t *testing.T, others ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root for network namespaces")
	}
	switch _, err := os.Stat("/dev/net/tun"); {
	case errors.Is(err, fs.ErrNotExist):
		t.Skip("NOT RUN: needs /dev/net/tun")
	case err != nil:
		t.Fatal(err)
	}
	base := fmt.Sprintf("w2-%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
	for _, space := range append([]string{""}, others...) {
		makeOne(t, join(base, space))
	}
	return base
}

// Inside says whether this process was started by [Again].
func Inside(t *testing.T) bool {
	t.Helper()
	return os.Getenv(nameEnv) == t.Name()
}

// Remove kills what runs in a namespace of ours and removes it.
func Remove(t *testing.T, name string) {
	t.Helper()
	for range 50 {
		out, _ := exec.CommandContext(context.Background(), "ip", "netns", "pids", name).Output() // none: it is gone
		pids := strings.Fields(string(out))
		if len(pids) == 0 {
			break
		}
		for _, p := range pids {
			if pid, err := strconv.Atoi(p); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended just now
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = exec.CommandContext(context.Background(), "ip", "netns", "del", name).Run() // it may be gone
	_ = os.RemoveAll("/run/frr/" + name)
}

// Run runs a program that must succeed, and returns its output.
func Run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Within is limit where the machine is ours alone, and longer, said aloud, where
// others keep its processors busy: what is measured then is they.
func Within(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return limit
	}
	load, err := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	if each := load / float64(runtime.NumCPU()); err == nil && each > 2 {
		t.Logf("load %.1f: %s is taken for %s", load, limit, time.Duration(float64(limit)*each/2).Round(time.Second))
		return time.Duration(float64(limit) * each / 2)
	}
	return limit
}

// Eventually waits until ok, for at most limit.
func Eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
