package pki

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/signer"
)

// Compromise says that an issuer's key may be in other hands.
type Compromise struct {
	Issuer Issuer
	By     string
	Reason string // required
	// Staged switches to the generation that is staged already, for a root whose
	// key is on another machine. Its key must not have been within reach.
	Staged bool
	DryRun bool // only tell what would happen
}

// Consequences are what a [Compromise] does, or would do.
type Consequences struct {
	Distrusted []int    // generations of which nothing is accepted any more
	Active     int      // the generation that issues then
	Holders    []string // who has to fetch a new certificate: devices, or subjects of services
	// RootCRL says whether the root's revocation list names the distrusted
	// generations by itself; else a ceremony is needed for it.
	RootCRL bool
	Note    string // what remains to be done by people; "" for nothing
}

// Distrust ends the trust in all generations of an issuer and issues with a new
// one from now on. Certificates of the old ones, forged ones too, are refused
// at every handshake within two seconds on every replica, and their open
// connections end. A device whose very certificate is recorded may fetch its
// next one with it, for a new key. Each part is done again by the same call,
// or at the next start, after a crash.
//
// The hub issuer is what devices know the controller by: distrusting it at once
// would lock them all out. For it a new generation is published, and the switch
// is made with [PKI.NextRotation] when the devices know it.
//
// [ErrHeld]: the root's key is on another machine, and the new generation waits
// for its certificate; do the ceremony and call again with Staged.
func (p *PKI) Distrust(ctx context.Context, c Compromise) (Consequences, error) {
	r := Rotation{Issuer: c.Issuer, By: c.By, Reason: c.Reason}
	if err := r.check(); err != nil {
		return Consequences{}, err
	}
	fail := func(err error) (Consequences, error) {
		return Consequences{}, fmt.Errorf("distrust the %s issuer: %w", c.Issuer, err)
	}
	if strings.TrimSpace(c.Reason) == "" {
		return fail(fmt.Errorf("%w: give a reason", inventory.ErrInvalid))
	}
	list, err := p.generationsOf(ctx, c.Issuer)
	if err != nil {
		return fail(err)
	}
	st, err := p.signer.State(ctx)
	if err != nil {
		return fail(err)
	}
	out, err := p.consequences(ctx, c, list, st.RootKey)
	if err != nil || c.DryRun {
		return out, err
	}
	if c.Issuer == Hub {
		return out, p.republish(ctx, r, list)
	}
	if !c.Staged {
		info, err := p.stage(ctx, r, out.Active)
		if err != nil {
			return fail(err)
		}
		if len(info.Certificate) == 0 {
			return out, fmt.Errorf("distrust the %s issuer: %w: generation %d needs the root's signature: wardnet cert ceremony csr %s, sign, import; then again with --staged; until then nothing is distrusted", c.Issuer, ErrHeld, out.Active, c.Issuer)
		}
		if list, err = p.generationsOf(ctx, c.Issuer); err != nil {
			return fail(err)
		}
	}
	moves, err := planDistrust(list, out.Active)
	if err != nil {
		return fail(err)
	}
	if err := p.audit(ctx, Event{Actor: c.By, Action: "distrust", Object: "issuer " + string(c.Issuer), Outcome: "done", Reason: clip(c.Reason)}); err != nil {
		return fail(err)
	}
	at := time.Now().UTC()
	if err := p.deps.Store.MoveGenerations(ctx, moves, MoveRecord{At: at, By: c.By, Reason: c.Reason}); err != nil {
		return fail(err)
	}
	if err := p.loadIssuers(ctx); err != nil {
		return out, fmt.Errorf("the %s issuer is distrusted, but: %w", c.Issuer, err)
	}
	p.deps.Log.WarnContext(ctx, "issuer distrusted", "name", c.Issuer, "count", len(out.Holders))
	return out, nil
}

// consequences says what will happen.
func (p *PKI) consequences(ctx context.Context, c Compromise, list []Generation, rootKey bool) (Consequences, error) {
	out := Consequences{RootCRL: rootKey, Distrusted: []int{}, Holders: []string{}}
	newest, staged := 0, 0
	keys := map[string]bool{}
	for _, g := range list {
		newest = max(newest, g.Number)
		if g.State == Staged && g.Certificate != "" {
			staged = g.Number
		}
		if g.State.accepted() {
			out.Distrusted = append(out.Distrusted, g.Number)
			keys[g.KeyID] = true
		}
	}
	out.Active = newest + 1
	if c.Staged {
		if staged == 0 {
			return out, fmt.Errorf("distrust the %s issuer: %w: no generation is staged and signed by the root", c.Issuer, inventory.ErrConflict)
		}
		out.Active = staged
	}
	if !rootKey {
		out.Note = "the root's key is not on this machine: its revocation list needs a ceremony (wardnet cert ceremony crl, import)"
		if !c.Staged {
			out.Note = "the root's key is not on this machine: the new generation needs a ceremony (csr, sign, import) before anything is distrusted; the root's revocation list needs one too (crl, import)"
		}
	}
	if c.Issuer == Hub {
		out.Note = "devices know the controller by this issuer: the new generation is published, and the switch ('rotate next', then once more to retire the old one) follows when they know it"
		out.Distrusted = []int{}
	}
	holders := c.Issuer
	if c.Issuer == Hub {
		holders = Devices
	}
	leaves, err := p.newest(ctx, holders, time.Now())
	if err != nil {
		return out, err
	}
	out.Holders = who(leaves, func(l Leaf) bool { return c.Issuer == Hub || keys[l.IssuerKey] })
	return out, nil
}

// republish stages and publishes a generation of the hub issuer, unless one is.
func (p *PKI) republish(ctx context.Context, r Rotation, list []Generation) error {
	if !slices.ContainsFunc(list, func(g Generation) bool { return g.State == Staged || g.State == Published }) {
		if err := p.StartRotation(ctx, r); err != nil {
			return err
		}
	}
	step, err := p.NextRotation(ctx, r)
	if step == SwitchStep && errors.Is(err, ErrHeld) {
		return nil // published before; the devices have to come first
	}
	return err
}

// Drill is how the holders of a distrusted generation have come to new
// certificates. Times are since the distrust, zero when not reached yet.
type Drill struct {
	Affected  int
	Rekeyed   int
	First     time.Duration
	Half      time.Duration
	P95       time.Duration
	Last      time.Duration
	Remaining []string
}

// drill follows those who held a live certificate of g when it was distrusted.
func drill(leaves []Leaf, g Generation) Drill {
	held, fresh := map[string]bool{}, map[string]time.Duration{}
	for _, l := range leaves { // in order of issue
		switch {
		case l.IssuerKey == g.KeyID && l.NotAfter.After(g.EndedAt) && (l.RevokedAt.IsZero() || l.RevokedAt.After(g.EndedAt)):
			held[l.holder()] = true
		case l.IssuerKey != g.KeyID && l.IssuedAt.After(g.EndedAt):
			if _, ok := fresh[l.holder()]; !ok {
				fresh[l.holder()] = l.IssuedAt.Sub(g.EndedAt)
			}
		}
	}
	d := Drill{Affected: len(held), Remaining: []string{}}
	var times []time.Duration
	for name := range held {
		if at, ok := fresh[name]; ok {
			times = append(times, at)
		} else {
			d.Remaining = append(d.Remaining, name)
		}
	}
	slices.Sort(d.Remaining)
	slices.Sort(times)
	d.Rekeyed = len(times)
	reached := func(share float64) time.Duration {
		n := int(float64(d.Affected)*share+0.999999) - 1
		if d.Affected == 0 || n >= len(times) {
			return 0
		}
		return times[max(0, n)]
	}
	if len(times) > 0 {
		d.First = times[0]
	}
	d.Half, d.P95, d.Last = reached(0.5), reached(0.95), reached(1)
	return d
}

// RotationStatus is where one issuer is.
type RotationStatus struct {
	Issuer      Issuer
	Generations []GenerationStatus
	Next        Step   // what 'rotate next' does; "" for nothing
	Held        string // why it cannot be taken now; "" when it can
	Behind      []string
}

// GenerationStatus is a generation with who depends on it.
type GenerationStatus struct {
	Generation
	Holders []string // whose newest live certificate is of it
	CSR     []byte   // DER; waits for the root's signature
	Drill   *Drill   // of a distrusted one
}

// Rotations tells where every issuer is.
func (p *PKI) Rotations(ctx context.Context) ([]RotationStatus, error) {
	st, err := p.signer.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the signer for its issuers: %w", err)
	}
	csrs := map[string][]byte{}
	for _, info := range st.Issuers {
		csrs[info.KeyID] = info.CSR
	}
	var out []RotationStatus
	for _, i := range signer.Issuers {
		s, err := p.rotation(ctx, i, csrs)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (p *PKI) rotation(ctx context.Context, i Issuer, csrs map[string][]byte) (RotationStatus, error) {
	s := RotationStatus{Issuer: i, Behind: []string{}}
	list, err := p.generationsOf(ctx, i)
	if err != nil {
		return s, err
	}
	now := time.Now()
	newest, err := p.newest(ctx, i, now)
	if err != nil {
		return s, err
	}
	for _, g := range list {
		gs := GenerationStatus{Generation: g, CSR: csrs[g.KeyID], Holders: who(newest, func(l Leaf) bool { return l.IssuerKey == g.KeyID })}
		if g.State == Distrusted {
			leaves, err := p.deps.Store.Leaves(ctx, i, g.EndedAt)
			if err != nil {
				return s, err
			}
			d := drill(leaves, g)
			gs.Drill = &d
		}
		s.Generations = append(s.Generations, gs)
	}
	step, g := nextStep(list)
	if g == nil {
		return s, nil
	}
	if s.Behind, err = p.behind(ctx, step, *g, now); err != nil {
		return s, err
	}
	s.Next = step
	if s.Behind == nil {
		s.Behind = []string{}
	}
	if _, _, err := planNext(list, circumstances{now: now, behind: len(s.Behind)}); err != nil {
		s.Held = err.Error()
	}
	return s, nil
}
