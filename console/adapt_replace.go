package console

import (
	"context"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/pki"
)

// Swap is everything that the replacement of a device changes.
type Swap struct {
	Base      uint64 // version of the inventory it starts from
	Inventory inventory.Inventory
	Revision  intent.Revision // of that inventory
	Handover  pki.Handover
}

// ReplacementSources are what replacements are made from; all are required but
// Reg.
type ReplacementSources struct {
	Inventory *KeptInventory
	Intents   *Intents
	PKI       *pki.PKI
	// Swap stores all of s in one step, or nothing and an error, which wraps
	// [inventory.ErrConflict] when somebody else was first. It gives the new
	// version of the inventory and the certificates revoked.
	Swap func(ctx context.Context, s Swap) (version uint64, revoked []pki.Revocation, err error)
	Reg  prometheus.Registerer
}

// Replacer is [Replacements].
type Replacer struct {
	src  ReplacementSources
	done prometheus.Counter
}

// AdaptReplacements makes replacements from src.
func AdaptReplacements(src ReplacementSources) *Replacer {
	return &Replacer{src, promauto.With(src.Reg).NewCounter(prometheus.CounterOpts{
		Name: "console_replacements_total", Help: "Devices put in the place of others.",
	})}
}

// Replace implements [Replacements]. Everything that can be refused is refused
// before anything is stored, and what is stored is one step: until then the old
// device works on, after it only the new one can.
func (r *Replacer) Replace(ctx context.Context, want client.NewReplacement, by string) (client.Replacement, error) {
	fail := func(err error) (client.Replacement, error) { return client.Replacement{}, err }
	inv, base, err := r.src.Inventory.fresh(ctx)
	if err != nil {
		return fail(err)
	}
	used, err := r.certified(ctx)
	if err != nil {
		return fail(err)
	}
	x, err := inventory.ReplaceDevice(inv, want.OldSerial, want.NewSerial, func(id inventory.DeviceID) bool { return used[id] })
	if err != nil {
		return fail(err)
	}
	message := fmt.Sprintf("replace device %s (%s) by %s (%s)", x.Old.ID, x.Old.Serial, x.New.ID, x.New.Serial)
	if why := strings.TrimSpace(want.Reason); why != "" {
		message += ": " + why
	}
	rev, err := r.src.Intents.prepare(ctx, x.Inventory, by, message, nil)
	if err != nil {
		return fail(err)
	}
	out := client.Replacement{Old: x.Old.ID, Device: x.New.ID, Site: x.New.Site}
	token, expires, err := r.src.PKI.HandOver(ctx, x.Old, x.New, by, func(ctx context.Context, h pki.Handover) ([]pki.Revocation, error) {
		version, revoked, err := r.src.Swap(ctx, Swap{Base: base, Inventory: x.Inventory, Revision: rev, Handover: h})
		out.Inventory, out.Revoked = version, len(revoked)
		return revoked, err
	})
	if err != nil {
		return fail(err)
	}
	r.done.Inc()
	r.src.Inventory.replaced(context.WithoutCancel(ctx), x.Inventory, out.Inventory)
	out.Revision = client.RevisionInfo{Number: rev.Number, Author: rev.Author, At: rev.At, Message: rev.Message, Hash: rev.Hash, Approvals: []intent.Approval{}, Waivers: []intent.Waiver{}}
	out.Enrolment, err = bundleOf(r.src.PKI, x.Inventory, []client.EnrolmentToken{{Device: x.New.ID, Serial: x.New.Serial, Token: token, Expires: expires}})
	if err != nil {
		return fail(fmt.Errorf("device %s is replaced by %s, but it has no bundle yet, make one with 'wardnet device bundle %s': %w", x.Old.ID, x.New.ID, x.New.ID, err))
	}
	return out, nil
}

// certified lists every device that was ever given a certificate: its id is
// used, even when the inventory has forgotten it.
func (r *Replacer) certified(ctx context.Context) (map[inventory.DeviceID]bool, error) {
	all, err := r.src.PKI.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	used := make(map[inventory.DeviceID]bool, len(all))
	for _, c := range all {
		used[c.Device] = true
	}
	return used, nil
}
