package pki

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// How often the upkeep looks, and what it keeps.
const (
	beatEvery  = 30 * time.Second
	beatGap    = 2 * time.Minute // without a beat nobody could have renewed
	sweepEvery = time.Minute
	purgeEvery = time.Hour

	keepCertificates = RecoverLimit + 30*24*time.Hour // after their end
	keepTokens       = 30 * 24 * time.Hour
	keepHistory      = 400 * 24 * time.Hour
	keepUsedIDs      = time.Hour
	purgeBatch       = 1000
)

// upkeep is what runs beside everything else; each part at its own pace.
type upkeep struct {
	beat, sweep, purge time.Time // next
}

// run does what is due. A part that fails is tried again at its next time.
func (p *PKI) keepUp(ctx context.Context, u *upkeep) error {
	now := time.Now().UTC().Round(0) // by the wall clock: a jump of it is a gap
	var errs []error
	due := func(next *time.Time, every time.Duration, do func() error) {
		if now.Before(*next) && next.Sub(now) <= every {
			return
		}
		*next = now.Add(every)
		errs = append(errs, do())
	}
	due(&u.beat, beatEvery, func() error {
		// With the signer away nobody can renew either.
		if _, err := p.signer.State(ctx); err != nil {
			return fmt.Errorf("no certificates can be had: %w", err)
		}
		return p.deps.Store.Beat(ctx, now, beatGap)
	})
	due(&u.sweep, sweepEvery, func() error {
		newest, err := p.deps.Store.Newest(ctx)
		if err != nil {
			return err
		}
		p.metrics.tellExpiry(newest, now)
		return p.sweep(ctx, newest, now)
	})
	due(&u.purge, purgeEvery, func() error { return p.Purge(ctx, now) })
	return errors.Join(errs...)
}

// Purge removes what nobody needs any more: certificates that ended more than
// 120 days ago but for the newest of a device, tokens 30 days after their end,
// ids of used one-time tokens, and history of more than 400 days. The
// revocation log stays.
func (p *PKI) Purge(ctx context.Context, now time.Time) error {
	r := Retention{
		Certificates: now.Add(-keepCertificates), Tokens: now.Add(-keepTokens),
		History: now.Add(-keepHistory), UsedIDs: now.Add(-keepUsedIDs), Batch: purgeBatch,
	}
	sum := 0
	for {
		gone, err := p.deps.Store.Purge(ctx, r)
		if err != nil {
			return fmt.Errorf("purge: %w", err)
		}
		full := false
		for table, n := range gone {
			p.metrics.purged.WithLabelValues(table).Add(float64(n))
			sum += n
			full = full || n >= r.Batch
		}
		if !full {
			break
		}
	}
	if sum > 0 {
		p.deps.Log.InfoContext(ctx, "old certificates and tokens removed", "count", sum)
	}
	return nil
}
