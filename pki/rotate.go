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

// Rotation asks for a step of an issuer's rotation.
type Rotation struct {
	Issuer Issuer
	By     string
	Reason string // for the audit log; required with Force
	Force  bool   // take the step although somebody is cut off by it
}

func (r Rotation) check() error {
	var errs []error
	if !slices.Contains(issuers, r.Issuer) {
		errs = append(errs, fmt.Errorf("%w: there is no issuer %q; there are %v", inventory.ErrInvalid, r.Issuer, issuers))
	}
	if r.Force && strings.TrimSpace(r.Reason) == "" {
		errs = append(errs, fmt.Errorf("%w: cutting somebody off needs a reason", inventory.ErrInvalid))
	}
	return errors.Join(errs...)
}

// generationsOf gives one issuer's, as stored now.
func (p *PKI) generationsOf(ctx context.Context, i Issuer) ([]Generation, error) {
	all, err := p.deps.Store.Generations(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the issuers: %w", err)
	}
	return slices.DeleteFunc(all, func(g Generation) bool { return g.Issuer != i }), nil
}

// StartRotation stages a new generation: its key in the signer first, then its
// row. After a crash between the two the same call goes on with that key.
// [inventory.ErrConflict]: a rotation is under way. Where the root's key is on
// another machine the generation waits for its certificate, see
// [PKI.InstallIssuer].
func (p *PKI) StartRotation(ctx context.Context, r Rotation) error {
	if err := r.check(); err != nil {
		return err
	}
	list, err := p.generationsOf(ctx, r.Issuer)
	if err != nil {
		return err
	}
	number, err := planStart(list)
	if err != nil {
		return fmt.Errorf("start the rotation of the %s issuer: %w", r.Issuer, err)
	}
	if _, err := p.stage(ctx, r, number); err != nil {
		return err
	}
	return p.loadIssuers(ctx)
}

// stage makes the generation and its row.
func (p *PKI) stage(ctx context.Context, r Rotation, number int) (signer.Info, error) {
	fail := func(err error) (signer.Info, error) {
		return signer.Info{}, fmt.Errorf("stage generation %d of the %s issuer: %w", number, r.Issuer, err)
	}
	if err := p.auditRotation(ctx, r, StageStep, number); err != nil {
		return fail(err)
	}
	info, err := p.signer.Change(ctx, signer.Change{Action: signer.Stage, Issuer: r.Issuer, Generation: number, RootCRLURL: p.rootCRLURL()})
	if err != nil {
		return fail(err)
	}
	g := Generation{Issuer: r.Issuer, Number: number, KeyID: info.KeyID, State: Staged, StagedAt: time.Now().UTC(), By: r.By, Reason: r.Reason}
	if len(info.Certificate) > 0 {
		g.Certificate = pemOf(info.Certificate)
	}
	if err := p.deps.Store.AddGeneration(ctx, g); err != nil {
		return fail(err)
	}
	return info, nil
}

// auditRotation records a step before it is taken.
func (p *PKI) auditRotation(ctx context.Context, r Rotation, step Step, number int) error {
	reason := r.Reason
	if r.Force {
		reason = "forced: " + reason
	}
	return p.audit(ctx, Event{Actor: r.By, Action: "rotate", Object: fmt.Sprintf("issuer %s generation %d", r.Issuer, number), Outcome: "done", Reason: clip(strings.TrimSpace(string(step) + " " + reason))})
}

// NextRotation takes the next step of the rotation under way: publish, switch
// or retire. What it has to wait for wraps [ErrHeld].
func (p *PKI) NextRotation(ctx context.Context, r Rotation) (Step, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	list, err := p.generationsOf(ctx, r.Issuer)
	if err != nil {
		return "", err
	}
	step, g := nextStep(list)
	c := circumstances{now: time.Now(), force: r.Force}
	if g != nil {
		behind, err := p.behind(ctx, step, *g, c.now)
		if err != nil {
			return "", err
		}
		c.behind = len(behind)
	}
	step, moves, err := planNext(list, c)
	if err != nil {
		return step, fmt.Errorf("rotate the %s issuer: %w", r.Issuer, err)
	}
	return step, p.move(ctx, r, step, moves)
}

// AbortRotation gives the new generation up, before it has issued.
func (p *PKI) AbortRotation(ctx context.Context, r Rotation) error {
	if err := r.check(); err != nil {
		return err
	}
	list, err := p.generationsOf(ctx, r.Issuer)
	if err != nil {
		return err
	}
	moves, err := planAbort(list)
	if err != nil {
		return fmt.Errorf("abort the rotation of the %s issuer: %w", r.Issuer, err)
	}
	return p.move(ctx, r, AbortStep, moves)
}

// move records, makes and puts in force. What follows a move (the signer's
// retirement of a key, closed connections) is done again at the next look or
// start, should we die in between.
func (p *PKI) move(ctx context.Context, r Rotation, step Step, moves []Move) error {
	if err := p.auditRotation(ctx, r, step, moves[len(moves)-1].Number); err != nil {
		return err
	}
	if err := p.deps.Store.MoveGenerations(ctx, moves, MoveRecord{At: time.Now().UTC(), By: r.By, Reason: r.Reason}); err != nil {
		return err
	}
	return p.loadIssuers(ctx)
}

// behind lists whom a step would cut off, as device ids or subjects.
func (p *PKI) behind(ctx context.Context, step Step, g Generation, now time.Time) ([]string, error) {
	switch {
	case step == SwitchStep && g.Issuer == Hub:
		newest, err := p.newest(ctx, Devices, now)
		if err != nil {
			return nil, err
		}
		// The answer that brought a certificate brought the pins of its moment,
		// and a device keeps both or none.
		return who(newest, func(l Leaf) bool { return l.IssuedAt.Before(g.PublishedAt.Add(settle)) }), nil
	case step == RetireStep:
		newest, err := p.newest(ctx, g.Issuer, now)
		if err != nil {
			return nil, err
		}
		return who(newest, func(l Leaf) bool { return l.IssuerKey == g.KeyID }), nil
	}
	return nil, nil
}

// newest gives the newest live certificate of every holder of an issuer's.
// The controller's own follow the switch within seconds, each replica's.
func (p *PKI) newest(ctx context.Context, i Issuer, now time.Time) (map[string]Leaf, error) {
	leaves, err := p.deps.Store.Leaves(ctx, i, now)
	if err != nil {
		return nil, err
	}
	out := map[string]Leaf{}
	for _, l := range leaves { // in order of issue
		if i != Hub && l.RevokedAt.IsZero() {
			out[l.holder()] = l
		}
	}
	return out, nil
}

func (l Leaf) holder() string {
	if l.Device != "" {
		return string(l.Device)
	}
	return l.Subject
}

func who(m map[string]Leaf, match func(Leaf) bool) []string {
	out := []string{}
	for name, l := range m {
		if match(l) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// InstallIssuer takes the certificate that the root signed elsewhere for a
// staged generation.
func (p *PKI) InstallIssuer(ctx context.Context, r Rotation, number int, der []byte) error {
	if err := r.check(); err != nil {
		return err
	}
	if err := p.auditRotation(ctx, r, "install", number); err != nil {
		return err
	}
	info, err := p.signer.Change(ctx, signer.Change{Action: signer.Install, Issuer: r.Issuer, Generation: number, Certificate: der})
	if err != nil {
		return err
	}
	if err := p.deps.Store.CertifyGeneration(ctx, r.Issuer, number, pemOf(info.Certificate)); err != nil {
		return err
	}
	return p.loadIssuers(ctx)
}

// InstallRootCRL takes a revocation list that the root signed elsewhere.
func (p *PKI) InstallRootCRL(ctx context.Context, der []byte, by string) error {
	if err := p.audit(ctx, Event{Actor: by, Action: "rotate", Object: "root CRL", Outcome: "done", Reason: "install"}); err != nil {
		return err
	}
	if _, err := p.signer.Change(ctx, signer.Change{Action: signer.InstallRootCRL, Issuer: signer.Root, CRL: der}); err != nil {
		return err
	}
	p.crls.forget()
	return nil
}
