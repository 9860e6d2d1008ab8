package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge"
)

// timedBox is a Box whose device takes an unconfirmed change back by itself.
type timedBox struct{ *Box }

// Try is Write with the device's own deadline, rounded up to its unit.
func (b *timedBox) Try(ctx context.Context, _ edge.CommitID, _, want edge.Config, revert time.Duration) error {
	t := b.p.Timer
	units := int((revert + t.Unit - 1) / t.Unit)
	if units < 1 || units > t.Most {
		return fmt.Errorf("%w: %s: a return after %s is not within 1 to %d times %s", edge.ErrRejected, b.cfg.Device, revert, t.Most, t.Unit)
	}
	return b.write(ctx, want, strings.ReplaceAll(t.Enter, "$1", strconv.Itoa(units)))
}

// Keep makes what Try wrote permanent.
func (b *timedBox) Keep(ctx context.Context, _ edge.CommitID) error {
	return b.timer(ctx, b.p.Timer.Keep)
}

// Cancel takes it back at once.
func (b *timedBox) Cancel(ctx context.Context, _ edge.CommitID) error {
	return b.timer(ctx, b.p.Timer.Cancel)
}

func (b *timedBox) timer(ctx context.Context, command string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.with(ctx, false, func(s *session) error {
		text, err := s.ask(ctx, command)
		if err == nil && b.p.refuses(strings.TrimSpace(text)) {
			err = fmt.Errorf("%w: %q is answered with %q", edge.ErrRejected, command, clip(text))
		}
		return err
	})
}
