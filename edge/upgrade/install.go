package upgrade

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

const (
	maxPiece  = 256 << 10 // bytes of one message
	syncEvery = 2 << 20   // bytes between two points from which a transfer can go on
	spare     = 4 << 20   // bytes left free on the disk
)

// transfer is a binary on its way into a slot.
type transfer struct {
	u    *Upgrade
	slot string
	r    release.Release
	part string    // path of what has come so far
	file disk.File // nil: everything is there already

	written int64 // bytes
	safe    int64 // of them durable and journaled
}

// begin checks r and opens its slot; an earlier transfer of the same release
// goes on at its safe point. One transfer at a time: end must be called.
func (u *Upgrade) begin(r release.Release) (*transfer, error) {
	if err := u.trust(r); err != nil {
		return nil, err
	}
	if !u.installing.TryLock() {
		return nil, fmt.Errorf("%w: another transfer is under way", ErrBusy)
	}
	t, err := u.open(r)
	if err != nil {
		u.installing.Unlock()
		return nil, fmt.Errorf("install %s: %w", r, err)
	}
	return t, nil
}

func (u *Upgrade) open(r release.Release) (*transfer, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t := u.journal.Try; t != nil || u.leaving {
		return nil, fmt.Errorf("%w: an agent version is on trial; wait for its end", ErrBusy)
	}
	name, err := u.journal.place(r, u.deps.Running)
	if err != nil {
		return nil, err
	}
	t := &transfer{u: u, slot: name, r: r, part: slotPath(u.deps.Dir, name) + ".part"}
	have := u.journal.Slots[name]
	same := have.Release.Same(r)
	if same && have.Installed && u.checkFile(slotPath(u.deps.Dir, name), r) == nil {
		t.written, t.safe = r.Size, r.Size
		return t, nil
	}
	if err := u.prepare(t, have, same); err != nil {
		return nil, err
	}
	return t, nil
}

// prepare makes the slot ready to take t; u.mu is held.
func (u *Upgrade) prepare(t *transfer, have Slot, same bool) error {
	dir := filepath.Dir(t.part)
	if err := u.deps.Files.MkdirAll(dir); err != nil {
		return fmt.Errorf("make slot %s: %w", t.slot, err)
	}
	if err := u.deps.Files.SyncDir(u.deps.Dir); err != nil {
		return fmt.Errorf("make slot %s: %w", t.slot, err)
	}
	size, err := u.deps.Blobs.Size(t.part)
	if err != nil {
		return fmt.Errorf("look at slot %s: %w", t.slot, err)
	}
	if same && !have.Installed {
		t.safe = min(have.Received, size)
	}
	room, err := u.deps.Blobs.Room(dir)
	if err != nil {
		return fmt.Errorf("look at slot %s: %w", t.slot, err)
	}
	if need := uint64(max(t.r.Size-size, 0)) + spare; room.Free < need {
		return fmt.Errorf("%w: slot %s in %s needs %d bytes and %d are free; free some on the device", ErrNoRoom, t.slot, u.deps.Dir, need, room.Free)
	}
	if room.NoExec {
		return fmt.Errorf("%w: %s is mounted noexec, so no agent can be run from it; mount it without, or give another --state", ErrRefused, u.deps.Dir)
	}
	if !same || have.Installed {
		if err := u.keep(u.journal.with(t.slot, Slot{Release: t.r})); err != nil {
			return err
		}
	}
	if t.file, err = u.deps.Blobs.Append(t.part, t.safe); err != nil {
		return fmt.Errorf("open slot %s: %w", t.slot, err)
	}
	t.written = t.safe
	if err := u.deps.Files.SyncDir(dir); err != nil {
		return errors.Join(fmt.Errorf("open slot %s: %w", t.slot, err), t.file.Close())
	}
	return nil
}

// write takes the piece that starts at offset and says whether the safe point
// moved.
func (t *transfer) write(offset uint64, piece []byte) (moved bool, err error) {
	switch {
	case t.file == nil:
		return false, fmt.Errorf("%w: everything has come already", inventory.ErrInvalid)
	case len(piece) > maxPiece:
		return false, fmt.Errorf("%w: a piece of %d bytes; send %d at most", inventory.ErrInvalid, len(piece), maxPiece)
	case offset != uint64(t.written):
		return false, fmt.Errorf("%w: a piece at byte %d, expected at %d", inventory.ErrInvalid, offset, t.written)
	case t.written+int64(len(piece)) > t.r.Size:
		return false, fmt.Errorf("%w: more than the %d bytes that were announced", inventory.ErrInvalid, t.r.Size)
	}
	if _, err := t.file.Write(piece); err != nil {
		return false, t.full(err)
	}
	t.written += int64(len(piece))
	if t.written-t.safe < t.u.every && t.written < t.r.Size {
		return false, nil
	}
	return true, t.settle()
}

// settle makes durable what has come.
func (t *transfer) settle() error {
	if err := t.file.Sync(); err != nil {
		return t.full(err)
	}
	t.u.mu.Lock()
	defer t.u.mu.Unlock()
	if err := t.u.keep(t.u.journal.with(t.slot, Slot{Release: t.r, Received: t.written})); err != nil {
		return t.full(err)
	}
	t.safe = t.written
	return nil
}

// full gives a failed write its meaning; a full disk gets its room back.
func (t *transfer) full(err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("install %s: %w", t.r, err)
	}
	return fmt.Errorf("install %s: %w: the device's disk is full after %d bytes, what came was removed; free some and send again: %w", t.r, ErrNoRoom, t.written, errors.Join(err, t.drop()))
}

// drop removes what has come.
func (t *transfer) drop() error {
	err := t.file.Close()
	t.file, t.written, t.safe = nil, 0, 0
	return errors.Join(err, t.u.deps.Blobs.Remove(t.part))
}

// complete says whether everything has come.
func (t *transfer) complete() bool { return t.written == t.r.Size }

// finish checks the whole and makes it the slot's binary. What is not as signed
// is removed.
func (t *transfer) finish() error {
	if t.file == nil {
		return nil
	}
	u := t.u
	if t.safe < t.written {
		if err := t.settle(); err != nil {
			return err
		}
	}
	if err := u.checkFile(t.part, t.r); err != nil {
		return fmt.Errorf("install %s: %w; send it again", t.r, errors.Join(err, t.drop()))
	}
	err := t.file.Close()
	t.file = nil
	if err != nil {
		return fmt.Errorf("install %s: %w", t.r, err)
	}
	path := slotPath(u.deps.Dir, t.slot)
	if err := u.deps.Files.Rename(t.part, path); err != nil {
		return fmt.Errorf("install %s: %w", t.r, err)
	}
	if err := u.deps.Files.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("install %s: %w", t.r, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.keep(u.journal.with(t.slot, Slot{Release: t.r, Installed: true}))
}

// end frees the slot for the next transfer; what has come stays.
func (t *transfer) end() error {
	defer t.u.installing.Unlock()
	if t.file == nil {
		return nil
	}
	var err error
	if t.written > t.safe {
		err = t.settle()
	}
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
	}
	return err
}
