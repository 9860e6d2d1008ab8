package clibox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Account sums the processor time, user and system, of processes and of all
// that they start, also of what has ended by then.
type Account struct{ dir string }

// The kernel accounts by control group: cpu.stat(cgroup v2) or cpuacct.usage
// (v1), at their usual places.
const (
	unified = "/sys/fs/cgroup/cgroup.controllers"
	v2Root  = "/sys/fs/cgroup"
	v1Root  = "/sys/fs/cgroup/cpuacct"
)

// NewAccount makes an empty account; it needs root.
func NewAccount(name string) (*Account, error) {
	root := v1Root
	if _, err := os.Stat(unified); err == nil {
		root = v2Root
	}
	if _, err := os.Stat(root); err != nil {
		return nil, fmt.Errorf("account processor time: no control groups at %s: %w", root, err)
	}
	a := &Account{filepath.Join(root, fmt.Sprintf("wardnet-%s-%d", name, os.Getpid()))}
	if err := os.Mkdir(a.dir, 0o755); err != nil {
		return nil, fmt.Errorf("account processor time: %w", err)
	}
	return a, nil
}

// Add takes in a process that runs; its time counts from now.
func (a *Account) Add(pid int) error {
	return os.WriteFile(filepath.Join(a.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// Command is argv as a command that counts from its start.
func (a *Account) Command(argv ...string) []string {
	return append([]string{"/bin/sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(a.dir, "cgroup.procs")}, argv...)
}

// Used is the time so far.
func (a *Account) Used() (time.Duration, error) {
	if b, err := os.ReadFile(filepath.Join(a.dir, "cpuacct.usage")); err == nil {
		ns, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		return time.Duration(ns), err
	}
	b, err := os.ReadFile(filepath.Join(a.dir, "cpu.stat"))
	if err != nil {
		return 0, fmt.Errorf("account processor time: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("account processor time: %s has no usage", a.dir)
}

// Close removes the account, which must have no process left.
func (a *Account) Close() error { return os.Remove(a.dir) }
