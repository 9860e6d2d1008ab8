package process

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
)

const (
	logSize  = 256 << 10        // bytes of a log file before it becomes the old one
	logEvery = 10 * time.Second // at most one line of a kind in this time
)

// File is a log file that keeps itself small: when it is full it becomes
// NAME.1, and a new one begins. Standard output and error point to it, so that
// a crash leaves its trace there.
type File struct {
	path string
	mu   sync.Mutex
	f    *os.File
	n    int64
}

// OpenFile opens or continues the log file at path.
func OpenFile(path string) (*File, error) {
	l := &File{path: path}
	return l, l.open()
}

func (l *File) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("open log: %w", err)
	}
	for _, std := range []int{1, 2} {
		if err := unix.Dup3(int(f.Fd()), std, 0); err != nil {
			_ = f.Close()
			return fmt.Errorf("point standard output to the log: %w", err)
		}
	}
	if l.f != nil {
		_ = l.f.Close()
	}
	l.f, l.n = f, st.Size()
	return nil
}

// Write implements io.Writer.
func (l *File) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n+int64(len(b)) > logSize {
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return 0, fmt.Errorf("turn over log: %w", err)
		}
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(b)
	l.n += int64(n)
	return n, err
}

// logger gives a device its log: errors only, and few of a kind, for a device
// without a route complains about every packet.
func logger(log *slog.Logger, name string) *device.Logger {
	var mu sync.Mutex
	kinds := map[string]*kind{}
	return &device.Logger{
		Verbosef: device.DiscardLogf,
		Errorf: func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			k := kinds[format]
			if k == nil {
				k = &kind{}
				kinds[format] = k
			}
			if time.Since(k.last) < logEvery {
				k.held++
				return
			}
			log.Warn("wireguard", "interface", name, "err", fmt.Sprintf(format, args...), "held_back", k.held)
			k.last, k.held = time.Now(), 0
		},
	}
}

// kind counts the lines of one format.
type kind struct {
	last time.Time
	held int
}
