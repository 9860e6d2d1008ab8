package impair

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// journal is the file with every fault there is. It is written before a fault
// is made and after it is healed.
type journal struct{ path string }

// locked runs fn with the faults there are, while no other process does, and
// keeps what it returns.
func (j journal) locked(fn func([]Fault) ([]Fault, error)) error {
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return fmt.Errorf("journal of faults: %w", err)
	}
	lock, err := os.OpenFile(j.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the journal of faults: %w", err)
	}
	defer lock.Close() // unlocks
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the journal of faults: %w", err)
	}
	faults, err := j.read()
	if err != nil {
		return err
	}
	before := slices.Clone(faults)
	after, err := fn(faults)
	if !slices.EqualFunc(before, after, func(a, b Fault) bool { return a.Kind == b.Kind && a.Target == b.Target && a.At.Equal(b.At) }) {
		err = errors.Join(err, j.write(after))
	}
	return err
}

func (j journal) read() ([]Fault, error) {
	b, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []Fault
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("read the journal of faults %s: %w", j.path, err)
	}
	return out, nil
}

func (j journal) write(faults []Fault) error {
	if faults == nil {
		faults = []Fault{}
	}
	b, err := json.MarshalIndent(faults, "", "  ")
	if err == nil {
		err = os.WriteFile(j.path+".new", append(b, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err != nil {
		return fmt.Errorf("write the journal of faults: %w", err)
	}
	return nil
}
