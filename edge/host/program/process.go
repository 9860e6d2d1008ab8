package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Process finds a daemon by its pid file. It returns 0 unless a process of that
// number lives that the kernel calls comm and that has the word among its
// arguments; an empty word is any: the number may be another's by now.
func Process(pidFile, comm, word string) int {
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0
	}
	begun, lives := look(pid)
	if !lives {
		return 0
	}
	who := identity{pid, begun, comm, word}
	if last, ok := known.Load(pidFile); ok && last == who {
		return pid
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	name, err1 := os.ReadFile(filepath.Join(proc, "comm"))
	args, err2 := os.ReadFile(filepath.Join(proc, "cmdline"))
	if errors.Join(err1, err2) != nil || strings.TrimSpace(string(name)) != comm || !bytes.Contains(args, []byte(word)) {
		return 0
	}
	known.Store(pidFile, who)
	return pid
}

// identity is a process that was found to be what a pid file says. The time of
// its start tells it from a later one of the same number.
type identity struct {
	pid               int
	begun, comm, word string
}

// known are the identities found, by pid file: daemons are looked at every
// second.
var known sync.Map

// look says when a process began, in the kernel's words, and whether it has not
// ended.
func look(pid int) (begun string, lives bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := strings.Cut(string(stat), ") ") // proc_pid_stat(5), field 3 on
	f := strings.Fields(rest)
	const state, starttime = 0, 22 - 3
	if err != nil || !ok || len(f) <= starttime {
		return "", false
	}
	return f[starttime], f[state] != "Z" && f[state] != "X"
}

// Lives says whether a process is there and has not ended, only waiting to be
// collected.
func Lives(pid int) bool {
	_, lives := look(pid)
	return lives
}

// SameNamespace says whether a process is in our network namespace.
func SameNamespace(pid int) bool {
	own, err1 := os.Readlink("/proc/thread-self/ns/net")
	its, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err1 == nil && err2 == nil && own == its
}

// Wait looks every 10 ms until ok, for at most limit; the error is the complaint.
func Wait(ctx context.Context, limit time.Duration, complaint string, ok func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New(complaint))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}
