package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// urgency is the nice value of what carries traffic or watches over it.
const urgency = -10

// Urgent puts a process before those that only manage: on a box that is short
// of time, packets and the detection of dead paths come first (nice value -10,
// sched(7)). It may be repeated; a process that has ended is no error.
func Urgent(pid int) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	threads, err := os.ReadDir(filepath.Join(dir, "task"))
	for _, t := range threads {
		tid, aerr := strconv.Atoi(t.Name())
		if aerr != nil {
			continue
		}
		// The value is a thread's own; new ones have that of the thread that makes
		// them.
		if perr := unix.Setpriority(unix.PRIO_PROCESS, tid, urgency); perr != nil && !errors.Is(perr, unix.ESRCH) {
			err = errors.Join(err, perr)
		}
	}
	// Where the kernel groups by session, that value counts within one only. The
	// file is missing from kernels that do not.
	if gerr := os.WriteFile(filepath.Join(dir, "autogroup"), []byte(strconv.Itoa(urgency)), 0); !gone(gerr) {
		err = errors.Join(err, gerr)
	}
	if err == nil || gone(err) {
		return nil
	}
	return fmt.Errorf("put process %d before others: %w; it needs CAP_SYS_NICE", pid, err)
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }
