package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory/intent"
)

// Waivers reads the waivers on record whose signatures verified.
type Waivers interface {
	WaiversOf(ctx context.Context, n intent.Number) ([]intent.Waiver, error)
}

// UnprovenError says that a revision does not go out: packets pass that its
// intent does not name, or nothing could be proven of it.
type UnprovenError struct {
	Revision intent.Number
	Findings []string // what the proof found, a line each
	Waiver   error    // why no waiver covers it; nil: there is none
}

func (e *UnprovenError) Error() string {
	s := fmt.Sprintf("revision %d is not proven: %s", e.Revision, e.Findings[0])
	if n := len(e.Findings) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	if e.Waiver != nil {
		s += "; " + e.Waiver.Error()
	}
	return s
}

func (e *UnprovenError) Unwrap() error { return e.Waiver }

// Hint says what to do next.
func (e *UnprovenError) Hint() string {
	return fmt.Sprintf("see 'wardnet plan %d' for packets and lines, and correct the intent; a person with the role security may take the risk with 'wardnet waive'", e.Revision)
}

// Findings are what the proof has against the revision, a line each; none: it
// holds.
func (p Proof) Findings() []string {
	switch {
	case p.Why != "":
		return []string{p.Why}
	case p.Holds:
		return nil
	}
	out := make([]string, 0, len(p.Counterexamples)+len(p.Unreached))
	for _, c := range slices.Concat(p.Counterexamples, p.Unreached) {
		out = append(out, c.String())
	}
	if len(out) == 0 {
		return []string{"the proof does not hold"}
	}
	return out
}

// Prove returns the proof of revision n.
func (c *Controller) Prove(ctx context.Context, n intent.Number) (Proof, error) {
	to, err := c.compile(ctx, n, false)
	if err != nil {
		return Proof{}, fmt.Errorf("prove: %w", err)
	}
	return c.proven(to), nil
}

// cleared says whether the proof of r's revision, or a waiver, lets it go out. A
// return needs neither: its content was in force. more is what else was found.
func (c *Controller) cleared(ctx context.Context, r Rollout, more ...string) error {
	if r.Returns != "" {
		return nil
	}
	p, err := c.Prove(ctx, r.Revision)
	if err != nil {
		return err
	}
	findings := append(p.Findings(), more...)
	if len(findings) == 0 {
		return nil
	}
	refused := &UnprovenError{Revision: r.Revision, Findings: findings}
	if c.deps.Waivers == nil {
		return refused
	}
	waivers, err := c.deps.Waivers.WaiversOf(ctx, r.Revision)
	if err != nil {
		return fmt.Errorf("read the waivers of revision %d: %w", r.Revision, err)
	}
	if len(waivers) == 0 {
		return refused
	}
	rev, err := c.deps.Revisions.Get(ctx, r.Revision)
	if err != nil {
		return fmt.Errorf("read revision %d: %w", r.Revision, err)
	}
	for _, w := range waivers {
		if refused.Waiver = w.Valid(rev, time.Now()); refused.Waiver == nil {
			return nil
		}
	}
	return refused
}

// admitted says whether the next wave of r may start: the approval stands, and
// the proof or its waiver. An error that is not a person's to mend is passed on
// as it is; the others hold the rollout.
func (c *Controller) admitted(ctx context.Context, r Rollout) (held, err error) {
	var unproven *UnprovenError
	switch err := errors.Join(c.approved(ctx, r), c.cleared(ctx, r)); {
	case err == nil:
		return nil, nil
	case errors.Is(err, ErrHeld), errors.As(err, &unproven):
		return err, nil
	default:
		return nil, err
	}
}

// waiverEnded reports, once, that the revision in force was let out by a waiver
// and that the last one has ended.
func (c *Controller) waiverEnded(ctx context.Context) error {
	c.mu.Lock()
	n := c.base()
	c.mu.Unlock()
	if n == 0 || c.deps.Waivers == nil || c.waiverTold == n {
		return nil
	}
	waivers, err := c.deps.Waivers.WaiversOf(ctx, n)
	if err != nil {
		return fmt.Errorf("read the waivers of revision %d: %w", n, err)
	}
	now := time.Now()
	var last intent.Waiver
	for _, w := range waivers {
		if w.Until.After(last.Until) {
			last = w
		}
	}
	if last.Until.IsZero() || now.Before(last.Until) {
		return nil
	}
	c.waiverTold = n
	c.metrics.ended.Inc()
	c.audit(ctx, "proof.waiver-ended", fmt.Sprintf("revision/%d", n), fmt.Sprintf("the waiver by %s ended at %s and the revision is still in force: %s", last.By, last.Until.UTC().Format(time.RFC3339), last.Finding))
	return nil
}
