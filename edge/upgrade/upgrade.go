// Package upgrade replaces the agent's own binary. Two slots in the state
// directory hold signed binaries, beside the one that came with the box. A new
// one runs as the child of the old, which has become its guard: it is kept only
// when its management channel came up, what held before holds again, and the
// controller confirmed it in time. In every other case, a power cut included,
// the old one runs again. The data plane is not touched.
package upgrade

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/edge/release"
)

const (
	journalFile = "upgrade.json"
	program     = "wardnet-edge"
)

// Dir is where the agent's binaries are, under its state directory.
func Dir(state string) string { return filepath.Join(state, "agent") }

// slotPath is the binary of a slot.
func slotPath(dir, slot string) string { return filepath.Join(dir, slot, program) }

// Agent is what an upgrade asks of the running agent.
type Agent interface {
	// Held are the items of the health contract that hold now; the management
	// channel's also when it came up after since.
	Held(ctx context.Context, since time.Time) []string
	// Pending is the configuration on trial; "": none.
	Pending() edge.CommitID
}

// Deps are what an Upgrade needs; Version alone may be empty.
type Deps struct {
	Dir     string // see [Dir]
	Files   disk.Files
	Blobs   Blobs
	Running string // slot of the binary that runs, see [RunningSlot]
	// Keys returns the pinned agent keys, by key id.
	Keys    func() map[string]crypto.PublicKey
	Version string // of the binary that runs; "": unknown
	Stamped bool   // Version was built in, and must be the one it was released as
	Log     *slog.Logger
}

// Upgrade is the upgrade of one device's agent, as the running binary sees it.
// Its methods are safe for concurrent use.
type Upgrade struct {
	deps Deps
	disk *disk.Dir

	installing sync.Mutex // held by one Install at a time
	every      int64      // bytes between two safe points of a transfer

	mu      sync.Mutex // held over writes of the journal
	journal Journal
	child   *child // this process is on trial; nil: it is not
	agent   Agent  // nil: not started yet
	leave   context.CancelCauseFunc
	leaving bool
}

// Load reads the journal. A damaged one is kept aside and counts as none: then
// the binary that came with the box runs.
func Load(ctx context.Context, deps Deps) (*Upgrade, error) {
	if deps.Dir == "" || deps.Files == nil || deps.Blobs == nil || deps.Running == "" || deps.Keys == nil || deps.Log == nil {
		return nil, errors.New("load the agent's slots: Deps has an empty field")
	}
	d, err := disk.Open(deps.Files, deps.Dir)
	if err != nil {
		return nil, err
	}
	if err := deps.Files.SyncDir(filepath.Dir(deps.Dir)); err != nil {
		return nil, fmt.Errorf("make the directory of agents durable: %w", err)
	}
	u := &Upgrade{deps: deps, disk: d, every: syncEvery}
	u.journal, err = disk.Read[Journal](d, journalFile)
	if errors.Is(err, disk.ErrDamaged) {
		path := filepath.Join(deps.Dir, journalFile)
		deps.Log.ErrorContext(ctx, "the journal of the agent's slots is damaged", "err", err)
		u.journal, err = Journal{}, deps.Files.Rename(path, path+".damaged")
	}
	if err != nil {
		return nil, fmt.Errorf("load the agent's slots: %w", err)
	}
	return u, nil
}

// Settle is the first step of a start that is no trial: a trial that is still
// in the journal was interrupted. It answers the slot to run, [Base] when
// nothing else can: a slot whose binary is not whole or not signed is given up
// for the one before it.
func (u *Upgrade) Settle(ctx context.Context, now time.Time) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t := u.journal.Try; t != nil {
		why := "interrupted: the box or its agent ended before the version was confirmed"
		u.deps.Log.WarnContext(ctx, "agent version taken back", "version", t.Version, "commit", t.Commit, "err", why)
		u.note(ctx, u.journal.fail(why, now))
	}
	for u.journal.current() != Base {
		name := u.journal.current()
		err := u.checkSlot(name)
		if err == nil {
			return name
		}
		u.deps.Log.ErrorContext(ctx, "agent slot cannot be run", "slot", name, "version", u.journal.Slots[name].Release.Version, "err", err)
		u.note(ctx, u.journal.spoiled(fmt.Sprintf("slot %s cannot be run: %v", name, err), now))
	}
	return Base
}

// note puts j in force even when it cannot be written: the next start finds the
// older journal and comes to the same end. u.mu is held.
func (u *Upgrade) note(ctx context.Context, j Journal) {
	u.journal = j
	if err := u.disk.Save(journalFile, j); err != nil {
		u.deps.Log.ErrorContext(ctx, "the journal of the agent's slots is not written", "err", err)
	}
}

// keep puts j in force when it is on disk; u.mu is held.
func (u *Upgrade) keep(j Journal) error {
	if err := u.disk.Save(journalFile, j); err != nil {
		return err
	}
	u.journal = j
	return nil
}

// Journal is the state as it is on disk.
func (u *Upgrade) Journal() Journal {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.journal
}

// Version is that of the binary that runs; "": unknown.
func (u *Upgrade) Version() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.version()
}

func (u *Upgrade) version() string {
	if r := u.journal.Slots[u.deps.Running].Release; r.Version != "" {
		return r.Version
	}
	return u.deps.Version
}

// checkSlot says whether the slot's binary is whole, signed and for this
// machine.
func (u *Upgrade) checkSlot(name string) error {
	s := u.journal.Slots[name]
	if !s.Installed {
		return fmt.Errorf("%w: nothing is installed", ErrDamaged)
	}
	if err := u.trust(s.Release); err != nil {
		return err
	}
	return u.checkFile(slotPath(u.deps.Dir, name), s.Release)
}

// trust says whether r is signed and for this machine.
func (u *Upgrade) trust(r release.Release) error {
	if err := r.Verify(u.deps.Keys()); err != nil {
		return err
	}
	if r.GOOS != runtime.GOOS || r.GOARCH != runtime.GOARCH {
		return fmt.Errorf("%w: release %s is not for this device, which is %s/%s", ErrRefused, r, runtime.GOOS, runtime.GOARCH)
	}
	return nil
}

// checkFile compares a file with what was signed.
func (u *Upgrade) checkFile(path string, r release.Release) error {
	f, err := u.deps.Blobs.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing", ErrDamaged, path)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if n != r.Size || string(sum.Sum(nil)) != string(r.SHA256) {
		return fmt.Errorf("%w: %s (%d bytes) is not release %s (%d bytes, sha256 %.12x…)", ErrDamaged, path, n, r, r.Size, r.SHA256)
	}
	return nil
}
