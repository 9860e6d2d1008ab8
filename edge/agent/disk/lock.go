package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/wardnet/wardnet/inventory"
)

// Open file description locks (fcntl(2)): bound to the open file, so that two
// agents of one process exclude each other too, and readable without taking.
const (
	ofdGetLock = 36
	ofdSetLock = 37

	lockFile = "lock"
)

// Lock takes the state directory for one agent, until release or the end of
// the process. [inventory.ErrConflict]: another agent runs on it.
func Lock(path string) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := syscall.FcntlFlock(f.Fd(), ofdSetLock, &syscall.Flock_t{Type: syscall.F_WRLCK}); err != nil {
		err = errors.Join(err, f.Close())
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
			return nil, fmt.Errorf("%w: another agent runs on state directory %s", inventory.ErrConflict, path)
		}
		return nil, fmt.Errorf("lock state directory %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// Locked says whether an agent runs on the state directory.
func Locked(path string) (bool, error) {
	f, err := os.Open(filepath.Join(path, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the state directory's lock: %w", err)
	}
	defer f.Close()
	l := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(f.Fd(), ofdGetLock, &l); err != nil {
		return false, fmt.Errorf("look at the lock of %s: %w", path, err)
	}
	return l.Type != syscall.F_UNLCK, nil
}
