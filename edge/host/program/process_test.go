package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProcessIsFoundByAllOfIts(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "61")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, file := cmd.Process.Pid, filepath.Join(t.TempDir(), "pid")
	end := func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
	}
	t.Cleanup(end)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf("%d\n", pid))
	// What /proc says is the old program's until the new one has taken its place.
	if err := Wait(t.Context(), time.Second, "no sleep", func() bool { return Process(file, "sleep", "") == pid }); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, file, comm, word string
		want                   int
	}{
		{"its arguments too", file, "sleep", "61", pid},
		{"other arguments", file, "sleep", "62", 0},
		{"another program", file, "zebra", "", 0},
		{"no file", file + "x", "sleep", "", 0},
	} {
		if got := Process(tt.file, tt.comm, tt.word); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if !SameNamespace(pid) {
		t.Error("our child is in another network namespace")
	}
	for _, text := range []string{"", "1\n", "-1", "a", "99999999"} {
		write(text)
		if got := Process(file, "sleep", ""); got != 0 {
			t.Errorf("%q names process %d", text, got)
		}
	}
	write(fmt.Sprint(pid))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// It is not collected yet: only its death makes it none.
	if err := Wait(t.Context(), time.Second, "dead, and still found", func() bool { return Process(file, "sleep", "") == 0 }); err != nil {
		t.Error(err)
	}
	if Lives(pid) || !Lives(os.Getpid()) {
		t.Error("the dead one lives, or we do not")
	}
	if SameNamespace(99999999) {
		t.Error("who is not there is in our namespace")
	}
}

func TestWaitSaysWhatItWaitedFor(t *testing.T) {
	if err := Wait(t.Context(), 20*time.Millisecond, "it does not come", func() bool { return false }); err == nil || !strings.Contains(err.Error(), "it does not come") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Wait(ctx, time.Minute, "it does not come", func() bool { return false }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestUrgent(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "61")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // its own group, not the test's
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	err := Urgent(pid)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		t.Log("not allowed here: only the refusal is tested")
	} else if got, gerr := unix.Getpriority(unix.PRIO_PROCESS, pid); err != nil || gerr != nil || got != 20-urgency {
		t.Errorf("priority %d (the kernel gives 20 less the nice value), %v, %v", got, err, gerr)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
	if err := Urgent(pid); err != nil {
		t.Errorf("a process that has ended: %v", err)
	}
}
