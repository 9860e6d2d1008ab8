// Package archive keeps every configuration that was read back from a device,
// numbered, without its secrets, so that what ran when can be looked up and
// compared.
package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rogpeppe/go-internal/diff"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Head is a version without its text.
type Head struct {
	Device   inventory.DeviceID
	N        uint64        // counts from 1 for each device
	At       time.Time     // when it was read, UTC
	Revision intent.Number // that the device says it runs
	Hash     string        // of the document, as the device says
	Source   string        // why it was read: "read-back" or "trial"
	Complete bool          // the device's answer had its end
	Bytes    int           // of the text
	Note     string        // what is odd about it; empty: nothing
}

// Version is one configuration as a device ran it. Its text holds fingerprints
// in the place of secrets.
type Version struct {
	Head
	Text string
}

// Store keeps versions. Every method is durable on return.
type Store interface {
	// Append stores v under the number v.N; it wraps [inventory.ErrConflict]
	// when there is one.
	Append(ctx context.Context, v Version) error
	// Heads returns what is kept of a device, oldest first; of all when it is "".
	Heads(ctx context.Context, device inventory.DeviceID) ([]Head, error)
	// Get returns version n of a device, the newest for 0; it wraps
	// [inventory.ErrNotFound].
	Get(ctx context.Context, device inventory.DeviceID, n uint64) (Version, error)
	// Prune removes all but the newest keep versions of a device.
	Prune(ctx context.Context, device inventory.DeviceID, keep int) error
}

// Redactor takes secrets out of a text; edge/redact has one.
type Redactor interface{ Text(text string) string }

// Deps are what an archive needs; all but Audit and Reg are required.
type Deps struct {
	Store    Store
	Redactor Redactor
	// Audit records what is odd about a version.
	Audit func(ctx context.Context, what, object, reason string)
	Reg   prometheus.Registerer
}

// keep is how many versions of a device stay.
const keep = 200

// collapse is the ratio of the size before under which a configuration is said
// to have collapsed: a device that lost its configuration, or an answer that
// was cut and looks whole.
const collapse = 0.5

// Keeper is the archive. It satisfies [controller.Archive].
type Keeper struct {
	deps  Deps
	kept  prometheus.Counter
	odd   *prometheus.CounterVec
	mu    sync.Mutex // one version at a time
	heads map[inventory.DeviceID]newest
}

// newest is what is known of a device's newest version.
type newest struct {
	n     uint64
	hash  string // of the document
	text  string // the text itself is compared where a device has one of its own
	bytes int
}

// Reasons why a version is odd.
const (
	oddIncomplete = "incomplete"
	oddCollapsed  = "collapsed"
)

// New makes an archive.
func New(deps Deps) (*Keeper, error) {
	if deps.Store == nil || deps.Redactor == nil {
		return nil, fmt.Errorf("archive: %w: a store and a redactor are required", inventory.ErrInvalid)
	}
	if deps.Audit == nil {
		deps.Audit = func(context.Context, string, string, string) {}
	}
	f := promauto.With(deps.Reg)
	k := &Keeper{
		deps: deps,
		kept: f.NewCounter(prometheus.CounterOpts{Name: "archive_versions_total", Help: "Configurations kept because they differed from the one before."}),
		odd: f.NewCounterVec(prometheus.CounterOpts{
			Name: "archive_odd_total", Help: "Configurations kept that were cut short or much smaller than the one before.",
		}, []string{"reason"}),
		heads: map[inventory.DeviceID]newest{},
	}
	k.odd.WithLabelValues(oddIncomplete)
	k.odd.WithLabelValues(oddCollapsed)
	return k, nil
}

// Keep implements [controller.Archive]: it stores what was read unless it equals
// the device's newest version.
func (k *Keeper) Keep(ctx context.Context, r controller.Reading) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	last, known := k.heads[r.Device]
	if !known {
		v, err := k.deps.Store.Get(ctx, r.Device, 0)
		if err == nil {
			last = newest{v.N, v.Hash, v.Text, v.Bytes}
		} else if !isNotFound(err) {
			return fmt.Errorf("archive the configuration of %s: %w", r.Device, err)
		}
	}
	text := r.Text
	if text == "" {
		if last.n > 0 && last.hash == r.Hash {
			k.heads[r.Device] = newest{n: last.n, hash: last.hash, bytes: last.bytes}
			return nil
		}
		b, err := json.MarshalIndent(r.Config, "", " ")
		if err != nil {
			return fmt.Errorf("archive the configuration of %s: %w", r.Device, err)
		}
		text = string(b) + "\n"
	}
	text = k.deps.Redactor.Text(text)
	if last.n > 0 && last.hash == r.Hash && last.text == text {
		k.heads[r.Device] = last
		return nil
	}
	v := Version{Head: Head{
		Device: r.Device, N: last.n + 1, At: time.Now().UTC(), Revision: r.Revision, Hash: r.Hash, Source: r.Source, Complete: r.Complete, Bytes: len(text),
	}, Text: text}
	reason := ""
	switch {
	case !r.Complete:
		reason, v.Note = oddIncomplete, "the device's answer was cut: do not restore from it"
	case last.n > 0 && float64(v.Bytes) < collapse*float64(last.bytes):
		reason, v.Note = oddCollapsed, fmt.Sprintf("shrank from %d to %d bytes", last.bytes, v.Bytes)
	}
	if err := k.deps.Store.Append(ctx, v); err != nil {
		return fmt.Errorf("archive version %d of %s: %w", v.N, r.Device, err)
	}
	k.kept.Inc()
	if reason != "" {
		k.odd.WithLabelValues(reason).Inc()
		k.deps.Audit(ctx, "archive."+reason, string(r.Device), fmt.Sprintf("version %d: %s", v.N, v.Note))
	}
	next := newest{n: v.N, hash: v.Hash, bytes: v.Bytes}
	if r.Text != "" {
		next.text = text
	}
	k.heads[r.Device] = next
	if v.N%keep == 0 {
		if err := k.deps.Store.Prune(ctx, r.Device, keep); err != nil {
			return fmt.Errorf("prune the archive of %s: %w", r.Device, err)
		}
	}
	return nil
}

// Heads lists the versions of a device, oldest first.
func (k *Keeper) Heads(ctx context.Context, device inventory.DeviceID) ([]Head, error) {
	heads, err := k.deps.Store.Heads(ctx, device)
	if err != nil {
		return nil, fmt.Errorf("list the archive of %s: %w", device, err)
	}
	return heads, nil
}

// Get returns version n of a device, the newest for 0.
func (k *Keeper) Get(ctx context.Context, device inventory.DeviceID, n uint64) (Version, error) {
	v, err := k.deps.Store.Get(ctx, device, n)
	if err != nil {
		return v, fmt.Errorf("read version %d of %s: %w", n, device, err)
	}
	return v, nil
}

// Diff compares two versions of a device as unified text. to 0 is the newest,
// from 0 the one before to.
func (k *Keeper) Diff(ctx context.Context, device inventory.DeviceID, from, to uint64) (a, b Head, text string, err error) {
	vb, err := k.Get(ctx, device, to)
	if err != nil {
		return a, b, "", err
	}
	if from == 0 {
		if vb.N < 2 {
			return a, vb.Head, "", fmt.Errorf("compare version %d of %s: %w: there is none before it", vb.N, device, inventory.ErrNotFound)
		}
		from = vb.N - 1
	}
	va, err := k.Get(ctx, device, from)
	if err != nil {
		return a, vb.Head, "", err
	}
	return va.Head, vb.Head, string(diff.Diff(name(va.Head), []byte(va.Text), name(vb.Head), []byte(vb.Text))), nil
}

func name(h Head) string {
	return fmt.Sprintf("%s version %d, %s, revision %d", h.Device, h.N, h.At.UTC().Format(time.RFC3339), h.Revision)
}

func isNotFound(err error) bool { return errors.Is(err, inventory.ErrNotFound) }
