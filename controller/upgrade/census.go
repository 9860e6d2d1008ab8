package upgrade

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Build is what an agent said of itself last.
type Build struct {
	Version  string // "": an agent that does not say
	Protocol int
}

// Census remembers which agent each device runs. It asks once for each session,
// a few devices at a time, so that a city that comes back at once is no storm.
type Census struct {
	ask   func(ctx context.Context, id inventory.DeviceID) (edge.State, error)
	log   *slog.Logger
	turns chan struct{}

	mu     sync.Mutex
	builds map[inventory.DeviceID]Build
}

// censusTurns is how many devices are asked at once, and censusWait how long
// each may take.
const (
	censusTurns = 8
	censusWait  = 20 * time.Second
)

// NewCensus makes an empty census; ask reads a device's state.
func NewCensus(ask func(context.Context, inventory.DeviceID) (edge.State, error), log *slog.Logger) *Census {
	return &Census{ask: ask, log: log, turns: make(chan struct{}, censusTurns), builds: map[inventory.DeviceID]Build{}}
}

// Up asks a device whose session came up; it returns at once. What cannot be
// asked keeps its last answer.
func (c *Census) Up(id inventory.DeviceID) {
	go func() {
		c.turns <- struct{}{}
		defer func() { <-c.turns }()
		ctx, cancel := context.WithTimeout(context.Background(), censusWait)
		defer cancel()
		st, err := c.ask(ctx, id)
		if err != nil {
			c.log.DebugContext(ctx, "agent version not read", "device", id, "err", err)
			if st.Version == "" {
				return
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.builds[id] = Build{Version: st.Version, Protocol: st.Protocol}
	}()
}

// Of returns what the device's agent said last; the zero value when it never
// did since this process started.
func (c *Census) Of(id inventory.DeviceID) Build {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.builds[id]
}
