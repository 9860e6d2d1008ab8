package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
	"github.com/wardnet/wardnet/inventory"
)

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d, err := Open(OS{}, path)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := d.Load(); err != nil || s.Highest != 0 || s.Credentials.Epoch != 0 {
		t.Fatalf("a new directory: %+v, %v", s, err)
	}
	if err := errors.Join(
		d.Save(RecordFile, commit.Record{Highest: 7}),
		d.Save(CredentialsFile, edge.Credentials{Epoch: 3}),
		d.Save(RecordFile, commit.Record{Highest: 8}),
	); err != nil {
		t.Fatal(err)
	}
	if s, err := d.Load(); err != nil || s.Highest != 8 || s.Credentials.Epoch != 3 {
		t.Errorf("loaded %+v, %v", s, err)
	}
	info, err := os.Stat(filepath.Join(path, RecordFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestDamagedFileIsKeptAside(t *testing.T) {
	path := t.TempDir()
	d, err := Open(OS{}, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Save(CredentialsFile, edge.Credentials{Epoch: 3}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, RecordFile), []byte(`{"highest": 8, "running": {`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Peek(); !errors.Is(err, ErrDamaged) {
		t.Errorf("peek: %v, want ErrDamaged", err)
	}
	s, err := d.Load()
	if !errors.Is(err, ErrDamaged) {
		t.Fatalf("err = %v, want ErrDamaged", err)
	}
	if s.Highest != 0 || s.Credentials.Epoch != 3 {
		t.Errorf("loaded %+v; want nothing of the damaged file and all of the other", s)
	}
	if _, err := os.Stat(filepath.Join(path, RecordFile+".damaged")); err != nil {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	path := t.TempDir()
	release, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("second lock: %v", err)
	}
	if on, err := Locked(path); !on || err != nil {
		t.Errorf("locked = %v, %v while it is", on, err)
	}
	release()
	if on, err := Locked(path); on || err != nil {
		t.Errorf("locked = %v, %v after the release", on, err)
	}
	release, err = Lock(path)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	release()
}
