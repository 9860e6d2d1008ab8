// Package disk keeps the agent's state in one directory, so that a power loss
// at any write leaves the old content or the new one, never a mixture: write
// beside, sync, rename, sync the directory.
package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
)

// Names of the files in the state directory.
const (
	RecordFile      = "config.json"      // commit.Record
	CredentialsFile = "credentials.json" // edge.Credentials
)

// Files is the part of a file system the directory needs. [OS] is the real one;
// tests pass one that loses power.
type Files interface {
	Read(name string) ([]byte, error) // fs.ErrNotExist when missing
	Create(name string) (File, error) // truncates; mode 0600
	Rename(from, to string) error
	SyncDir(dir string) error
	MkdirAll(dir string) error // mode 0700
}

// File is one file being written.
type File interface {
	io.WriteCloser
	Sync() error
}

// Dir is the state directory of one agent.
type Dir struct {
	files Files
	path  string
}

// Open makes the directory when it is missing.
func Open(files Files, path string) (*Dir, error) {
	if err := files.MkdirAll(path); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	return &Dir{files: files, path: path}, nil
}

// Load reads what an earlier agent saved. A file that is missing counts as
// empty. One that cannot be parsed is named in the error (which then wraps
// [ErrDamaged]) and kept aside as "<name>.damaged"; the rest is still returned,
// so that the device can at least be managed.
func (d *Dir) Load() (commit.State, error) {
	s, err := d.Peek()
	var bad *damagedError
	for _, e := range unjoin(err) {
		if errors.As(e, &bad) {
			err = errors.Join(err, d.files.Rename(bad.path, bad.path+".damaged"))
		}
	}
	return s, err
}

// Peek is Load for a reader beside the agent: it changes nothing.
func (d *Dir) Peek() (commit.State, error) {
	rec, errRec := Read[commit.Record](d, RecordFile)
	cred, errCred := Read[edge.Credentials](d, CredentialsFile)
	return commit.State{Record: rec, Credentials: cred}, errors.Join(errRec, errCred)
}

// ErrDamaged marks a state file that does not parse.
var ErrDamaged = errors.New("damaged state file")

type damagedError struct {
	path string
	err  error
}

func (e *damagedError) Error() string   { return fmt.Sprintf("%v: %s: %v", ErrDamaged, e.path, e.err) }
func (e *damagedError) Unwrap() []error { return []error{ErrDamaged, e.err} }

// unjoin lists the errors that errors.Join put together.
func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return nil
}

// Read gives what [Dir.Save] put under name; the zero value when there is
// nothing. What cannot be parsed is [ErrDamaged], and left where it is.
func Read[T any](d *Dir, name string) (v T, err error) {
	var zero T
	path := filepath.Join(d.path, name)
	b, err := d.files.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return zero, nil
	}
	if err != nil {
		return zero, fmt.Errorf("read state: %w", err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return zero, &damagedError{path, err}
	}
	return v, nil
}

// Save writes v, a state file's content, under name and returns when it is
// durable.
func (d *Dir) Save(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	path := filepath.Join(d.path, name)
	if err := d.replace(path, b); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}

func (d *Dir) replace(path string, b []byte) error {
	tmp := path + ".new"
	f, err := d.files.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.files.Rename(tmp, path); err != nil {
		return err
	}
	return d.files.SyncDir(d.path)
}

// OS is the machine's file system.
type OS struct{}

// Read implements [Files].
func (OS) Read(name string) ([]byte, error) { return os.ReadFile(name) }

// Create implements [Files].
func (OS) Create(name string) (File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

// Rename implements [Files].
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// MkdirAll implements [Files].
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

// SyncDir implements [Files].
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
