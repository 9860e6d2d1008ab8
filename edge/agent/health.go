package agent

import (
	"context"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
)

// link is what the agent knows of its management channel.
type link struct {
	mu sync.Mutex
	up bool
	at time.Time // when it last came up
}

// Channel notes that the management channel came up or went down; its item of
// the health contract follows.
func (a *Agent) Channel(up bool) {
	a.link.mu.Lock()
	a.link.up = up
	if up {
		a.link.at = time.Now()
	}
	a.link.mu.Unlock()
	select { // a trial may wait for it
	case a.ticks <- struct{}{}:
	default:
	}
}

// holds says whether the channel is up or was established after since: a
// controller that goes away later is not the configuration's fault.
func (l *link) holds(since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up || l.at.After(since)
}

// Held are the items of the health contract in force, and the channel's, that
// hold now; the channel's also when it came up after since.
func (a *Agent) Held(ctx context.Context, since time.Time) []string {
	return commit.Held(a.Running().Config.Contract, a.holding(ctx, since))
}

// Pending is the commit on trial; "": none.
func (a *Agent) Pending() edge.CommitID {
	if p := a.look().state.Pending; p != nil {
		return p.ID
	}
	return ""
}

// failing are the contract items on trial that do not hold now; a host that
// cannot be asked fails all of its own. a.mu is held.
func (a *Agent) failing(ctx context.Context) []string {
	p := a.state.Pending
	if p == nil || len(p.Held) == 0 {
		return nil
	}
	return p.Failing(a.holding(ctx, p.Since))
}

// holding returns which items hold now, for a change made at since.
func (a *Agent) holding(ctx context.Context, since time.Time) func(string) bool {
	channel := a.link.holds(since)
	h, err := a.deps.Host.State(ctx)
	if err != nil {
		a.deps.Log.WarnContext(ctx, "host state is unknown", "err", err)
	}
	holds := make(map[string]bool, len(h.Holds))
	for _, item := range h.Holds {
		holds[item] = err == nil
	}
	return func(item string) bool {
		if item == edge.ChannelItem {
			return channel
		}
		return holds[item]
	}
}
