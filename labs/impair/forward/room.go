package forward

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// newRoom is a network namespace without a name, in which nothing but us
// answers what comes: no address is made on any port. It ends with its file
// and the sockets in it.
func newRoom() (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		}
		if err != nil {
			done <- result{nil, fmt.Errorf("make the forwarder's namespace: %w", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		done <- result{f, err}
	}()
	r := <-done
	return r.f, r.err
}

// within runs fn on a thread of its own in the room.
func within(room *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		if err := unix.Setns(int(room.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the forwarder's namespace: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}
