package upgrade

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/release"
)

// factory signs binaries for this machine.
type factory struct {
	key  *ecdsa.PrivateKey
	keys map[string]crypto.PublicKey
}

func newFactory(t testing.TB) factory {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return factory{k, map[string]crypto.PublicKey{"k1": &k.PublicKey}}
}

func (f factory) release(t testing.TB, version string, content []byte) release.Release {
	t.Helper()
	sum := sha256.Sum256(content)
	r, err := release.Release{Version: version, GOOS: runtime.GOOS, GOARCH: runtime.GOARCH, Size: int64(len(content)), SHA256: sum[:]}.Sign(f.key, "k1")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func content(version string) []byte { return bytes.Repeat([]byte(version+" "), 6) }

// well is an agent for which everything holds.
type well struct{ held []string }

func (w well) Held(context.Context, time.Time) []string { return slices.Clone(w.held) }
func (w well) Pending() edge.CommitID                   { return "" }

func load(t testing.TB, f factory, files *power, running string) *Upgrade {
	t.Helper()
	u, err := Load(t.Context(), Deps{
		Dir: "/state/agent", Files: files, Blobs: files, Running: running, Version: "0",
		Keys: func() map[string]crypto.PublicKey { return f.keys }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	u.every = 8
	return u
}

// life drives one device's upgrades through power cuts at any disk operation,
// and remembers what was acknowledged.
type life struct {
	t     *testing.T
	f     factory
	files *power
	u     *Upgrade // of the process that runs the agent: the old one or the child

	n         int
	runs      string // slot acknowledged as confirmed
	maybe     string // slot whose Confirm was cut; "": none
	trying    string // commit acknowledged as on trial; "": none
	doubtful  string // commit whose Activate was cut
	kept      string // commit whose Confirm was cut
	installed string // version acknowledged and not overwritten since; "": none
}

// boot starts the usual command: what runs is the confirmed binary.
func (l *life) boot(r *rapid.T) {
	l.files.restart()
	u := l.process(Base)
	if n := rapid.IntRange(0, 6).Draw(r, "operations of the start"); n > 0 { // and cut in it
		l.files.left = n
		u.Settle(l.t.Context(), time.Now())
		l.files.restart()
		u = l.process(Base)
	}
	slot := u.Settle(l.t.Context(), time.Now())
	if slot != l.runs && (l.maybe == "" || slot != l.maybe) {
		r.Fatalf("slot %q runs after the restart, acknowledged %q, uncertain %q", slot, l.runs, l.maybe)
	}
	if slot != Base {
		if err := u.checkSlot(slot); err != nil || !u.Journal().Slots[slot].Confirmed {
			r.Fatalf("slot %q runs: %v, %+v", slot, err, u.Journal())
		}
	}
	j := u.Journal()
	if j.Try != nil {
		r.Fatal("a trial survived the restart")
	}
	if l.trying != "" && (j.Failed == nil || j.Failed.Commit != l.trying) && !(l.kept == l.trying && slices.Contains(j.Kept, l.kept)) {
		r.Fatalf("commit %q was on trial and is neither kept nor failed: %+v", l.trying, j)
	}
	l.runs, l.maybe, l.trying, l.doubtful, l.kept = slot, "", "", "", ""
	l.u = l.process(slot)
}

// process is a new process that runs slot; its own start is not cut.
func (l *life) process(slot string) *Upgrade {
	left := l.files.left
	l.files.left = -1
	u := load(l.t, l.f, l.files, slot)
	l.files.left = left
	u.Use(well{[]string{"channel"}}, func(error) {})
	return u
}

// crashed says whether power was lost in the last call, and restarts if so.
func (l *life) crashed(r *rapid.T, err error) bool {
	if l.files.left != 0 {
		if errors.Is(err, errPower) {
			r.Fatalf("power error with power on: %v", err)
		}
		return false
	}
	l.boot(r)
	return true
}

// install sends a version, or the first pieces of it.
func (l *life) install(r *rapid.T) {
	version := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(r, "version")
	pieces := rapid.IntRange(0, 4).Draw(r, "pieces")
	body := content(version)
	l.installed = ""
	t, err := l.u.begin(l.f.release(l.t, version, body))
	if err == nil {
		from := t.safe
		if from > 0 && from < t.r.Size && !bytes.HasPrefix(l.files.names[t.part].synced, body[:from]) {
			r.Fatalf("the safe point %d is not what is on the disk", from)
		}
		for i := 0; i < pieces && err == nil && !t.complete(); i++ {
			_, err = t.write(uint64(t.written), body[t.written:min(t.written+3, t.r.Size)])
		}
		if err == nil && t.complete() {
			if err = t.finish(); err == nil {
				l.installed = version
			}
		}
		err = errors.Join(err, t.end())
	}
	if l.crashed(r, err) {
		return
	}
	if err != nil && !(l.trying != "" && errors.Is(err, ErrBusy)) {
		r.Fatalf("install %s: %v", version, err)
	}
}

// activate tries the version installed last, and goes over to its process.
func (l *life) activate(r *rapid.T) {
	if l.trying != "" || l.installed == "" {
		return
	}
	l.n++
	t := Try{Commit: fmt.Sprint("c", l.n), Version: l.installed, Revert: MinRevert}
	running := l.u.Version()
	l.doubtful = t.Commit
	err := l.u.activate(l.t.Context(), t)
	if err == nil {
		l.trying = t.Commit
	}
	if l.crashed(r, err) {
		return
	}
	l.doubtful = ""
	if err != nil {
		j := l.u.Journal()
		if running != l.installed && j.Slots[j.current()].Release.Version != l.installed {
			r.Fatalf("activate %s while %s runs: %v", l.installed, running, err)
		}
		return
	}
	l.u = l.process(l.u.Journal().Try.Slot)
	if err := l.u.Adopt(t.Commit, time.Now()); err != nil {
		r.Fatal(err)
	}
}

func (l *life) confirm(r *rapid.T) {
	if l.trying == "" {
		return
	}
	slot := l.u.deps.Running
	l.maybe, l.kept = slot, l.trying
	err := l.u.confirm(l.t.Context(), l.trying)
	if err == nil {
		l.runs, l.trying, l.installed = slot, "", ""
	}
	if l.crashed(r, err) {
		return
	}
	if err != nil {
		r.Fatalf("confirm: %v", err)
	}
	l.maybe, l.kept = "", ""
	l.u = l.process(slot) // the guard ran it for good
}

// takenBack is the guard after a child that ended.
func (l *life) takenBack(r *rapid.T) {
	if l.trying == "" {
		return
	}
	l.u = l.process(l.runs)
	l.u.settleTry(l.t.Context(), "it ended")
	if l.crashed(r, nil) {
		return
	}
	if f := l.u.Journal().Failed; f == nil || f.Commit != l.trying || f.Why != "it ended" {
		r.Fatalf("failure %+v after commit %s was taken back", f, l.trying)
	}
	l.trying = ""
}

// TestPowerLossAnywhere: whatever is cut, what runs next is the binary that was
// confirmed last, whole and signed, and a trial that was cut is reported.
func TestPowerLossAnywhere(t *testing.T) {
	f := newFactory(t)
	rapid.Check(t, func(r *rapid.T) {
		l := &life{t: t, f: f, files: newPower(rapid.Uint64().Draw(r, "seed")), runs: Base}
		l.boot(r)
		r.Repeat(map[string]func(*rapid.T){
			"install": l.install, "activate": l.activate, "confirm": l.confirm, "taken back": l.takenBack,
			"restart": l.boot,
			"cut soon": func(r *rapid.T) {
				l.files.left = rapid.IntRange(1, 20).Draw(r, "operations")
			},
		})
	})
}
