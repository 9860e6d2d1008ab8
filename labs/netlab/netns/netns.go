// Package netns runs code and programs inside named network namespaces, as "ip
// netns" makes them. What is opened there stays there and may be used from
// anywhere.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/inventory"
)

// Dir is where namespaces have their names.
const Dir = "/run/netns"

// Path is the file of a namespace.
func Path(name string) string { return filepath.Join(Dir, name) }

// Do calls fn on a thread inside the namespace and waits for it. Sockets and
// processes that fn itself makes stay in the namespace; goroutines that it
// starts do not run there.
func Do(name string, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := do(name, fn)
		if back {
			runtime.UnlockOSThread()
		} // else the thread ends with this goroutine
		done <- err
	}()
	return <-done
}

// do says also whether the thread is back where it was.
func do(name string, fn func() error) (back bool, err error) {
	if name == "" || strings.ContainsRune(name, '/') {
		return true, fmt.Errorf("%w: namespace name %q", inventory.ErrInvalid, name)
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, fmt.Errorf("enter namespace %s: %w", name, err)
	}
	defer home.Close()
	there, err := os.Open(Path(name))
	if err != nil {
		return true, fmt.Errorf("enter namespace %s: %w; is the lab up?", name, err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter namespace %s: %w", name, err)
	}
	err = fn()
	return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil, err
}

// Exists says whether there is a namespace of that name.
func Exists(name string) bool {
	_, err := os.Stat(Path(name))
	return err == nil
}

// Output runs a program, by its absolute path, in the namespace and returns
// what it printed. What it complained of is in the error.
func Output(ctx context.Context, name, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := Do(name, cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s in namespace %s: %w: %s", filepath.Base(program), name, err, strings.TrimSpace(errs.String()+out.String()))
	}
	return out.String(), nil
}

// Dial connects from inside the namespace; addr is numeric.
func Dial(ctx context.Context, name, network, addr string) (conn net.Conn, err error) {
	err = Do(name, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// List names the namespaces whose name begins with prefix.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Processes lists the processes inside some namespaces, by pid.
func Processes(names ...string) ([]int, error) {
	inside := map[uint64]bool{} // inodes
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Stat(Path(n), &st); err == nil {
			inside[st.Ino] = true
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join("/proc", e.Name(), "ns/net"), &st); err == nil && inside[st.Ino] {
			out = append(out, pid)
		}
	}
	return out, nil
}
