package upgrade

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/wardnet/wardnet/edge/agent/disk"
)

// Blobs is what binaries need of a file system beyond [disk.Files]. [OS] is the
// real one; tests pass one that loses power or fills up.
type Blobs interface {
	// Append opens name for writing at its byte at, cutting what is behind; it
	// is made executable for its owner when missing.
	Append(name string, at int64) (disk.File, error)
	Open(name string) (io.ReadCloser, error) // fs.ErrNotExist when missing
	Size(name string) (int64, error)         // bytes; 0 when missing
	Remove(name string) error                // no error when missing
	Room(dir string) (Room, error)
}

// Room is what a file system offers.
type Room struct {
	Free   uint64 // bytes for us
	NoExec bool   // programs on it cannot be run
}

// OS is the machine's file system.
type OS struct{}

// Append implements [Blobs].
func (OS) Append(name string, at int64) (disk.File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o700)
	if err != nil {
		return nil, err
	}
	err = f.Truncate(at)
	if err == nil {
		_, err = f.Seek(at, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Open implements [Blobs].
func (OS) Open(name string) (io.ReadCloser, error) { return os.Open(name) }

// Size implements [Blobs].
func (OS) Size(name string) (int64, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Remove implements [Blobs].
func (OS) Remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// noExec is ST_NOEXEC of statfs(2).
const noExec = 8

// Room implements [Blobs].
func (OS) Room(dir string) (Room, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return Room{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return Room{Free: s.Bavail * uint64(s.Bsize), NoExec: s.Flags&noExec != 0}, nil
}
