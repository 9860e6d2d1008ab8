package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Hold returns the queue of the interface name that the process pid runs, as a
// second handle: until it is closed the interface keeps its carrier when that
// process dies, and routing does not see it go. Nothing is read from it.
func Hold(pid int, name string) (*os.File, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	list, err := os.ReadDir(filepath.Join(dir, "fdinfo"))
	if err != nil {
		return nil, fmt.Errorf("hold interface %s: %w", name, err)
	}
	for _, e := range list {
		info, err := os.ReadFile(filepath.Join(dir, "fdinfo", e.Name()))
		if err != nil || !strings.Contains(string(info), "iff:\t"+name+"\n") {
			continue // closed again, or something else
		}
		theirs, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, fmt.Errorf("hold interface %s: %w", name, err)
		}
		return duplicate(pid, theirs, name)
	}
	return nil, fmt.Errorf("hold interface %s: %w", name, errors.ErrUnsupported)
}

func duplicate(pid, theirs int, name string) (*os.File, error) {
	p, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("hold interface %s: %w", name, err)
	}
	defer unix.Close(p)
	fd, err := unix.PidfdGetfd(p, theirs, 0) // close-on-exec
	if err != nil {
		return nil, fmt.Errorf("hold interface %s: %w", name, err)
	}
	// With one queue only, as an older version made it, the next process could
	// not attach while we hold it.
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr)
	}
	if err == nil && ifr.Uint16()&unix.IFF_MULTI_QUEUE == 0 {
		err = errors.ErrUnsupported
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("hold interface %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), clone), nil
}
