package foreign

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
)

// What is in this file are test devices: in memory, with the faults that a
// network device has. They stand in for no product.

var errPower = errors.New("the controller's power is cut")

// power cuts the controller's power at one of its writes.
type power struct {
	mu   sync.Mutex
	left int // operations until the cut; negative: none is planned
	rand *rand.Rand
	seen int
}

func newPower(seed uint64) *power {
	return &power{left: -1, rand: rand.New(rand.NewPCG(seed, 0))}
}

// op counts one operation and says how much of it happens: all of it is
// acknowledged, or it is the last one and nothing, half or all of it happens.
func (p *power) op() (part int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen++
	switch p.left {
	case -1:
		return 2, nil
	case 0:
		return 0, errPower
	case 1:
		p.left = 0
		return p.rand.IntN(3), errPower
	}
	p.left--
	return 2, nil
}

func (p *power) cutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = n
}

func (p *power) off() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left == 0
}

// ramJournal is a journal that survives the controller.
type ramJournal struct {
	power *power
	mu    sync.Mutex
	entry Entry
	fail  error
}

func (j *ramJournal) Load(context.Context) (Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.entry, nil
}

func (j *ramJournal) Save(_ context.Context, e Entry) error {
	part, err := j.power.op()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil && j.fail != nil {
		return j.fail
	}
	if part == 2 {
		if e.Pending != nil { // the machine's state is not to be shared with the disk
			p := commit.Pending{ID: e.Pending.ID, Want: e.Pending.Want, Deadline: e.Pending.Deadline}
			e.Pending = &p
		}
		j.entry = e
	}
	return err
}

// faults are what is wrong with a device now.
type faults struct {
	away  bool  // cannot be reached
	no    error // every change is refused for this
	garb  bool  // answers what cannot be read
	other bool  // another device answers
	lose  int   // this many changes are carried out and their answer lost
	half  int   // this many changes stop half-way with the connection
	slow  time.Duration
}

var ramKinds = []edge.Kind{edge.KindLoopback, edge.KindCircuit, edge.KindSegment, edge.KindBGP, edge.KindNeighbour}

// ramBox is a test device that holds some kinds of parts.
type ramBox struct {
	power *power
	mu    sync.Mutex
	has   edge.Config
	faults
	writes int
}

func (b *ramBox) Holds() []edge.Kind { return ramKinds }

// held is c with the held parts of from.
func held(c, from edge.Config) edge.Config {
	ops := slices.DeleteFunc(edge.Diff(c, from), func(op edge.Op) bool { return !slices.Contains(ramKinds, op.Kind) })
	return ops.Apply(c)
}

func (b *ramBox) begin(ctx context.Context) error {
	if d := b.slow; d > 0 {
		b.mu.Unlock()
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		b.mu.Lock()
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", edge.ErrUnreachable, context.Cause(ctx))
	case b.power.off():
		return errPower
	case b.away:
		return fmt.Errorf("%w: no route to host", edge.ErrUnreachable)
	case b.other:
		return ErrOtherDevice
	case b.garb:
		return errors.New("the answer cannot be read: it ends in the middle; is the device being restarted?")
	}
	return nil
}

func (b *ramBox) Read(ctx context.Context, c edge.Config) (edge.Config, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.begin(ctx); err != nil {
		return edge.Config{}, err
	}
	return held(c, b.has), nil
}

func (b *ramBox) Write(ctx context.Context, have, want edge.Config) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.write(ctx, have, want, true)
}

func (b *ramBox) write(ctx context.Context, have, want edge.Config, stops bool) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	switch {
	case errors.Is(b.no, ErrBusy):
		return b.no
	case b.no != nil:
		return fmt.Errorf("%w: %w", edge.ErrRejected, b.no)
	}
	part, err := b.power.op()
	switch {
	case err != nil:
	case b.half > 0 && stops:
		b.half--
		part, err = 1, fmt.Errorf("%w: the session ended in the middle", edge.ErrUnreachable)
	case b.lose > 0:
		b.lose--
		err = fmt.Errorf("%w: the answer was lost", edge.ErrUnreachable)
	}
	if part == 1 && !stops { // one transaction
		part = 0
	}
	ops := edge.Diff(held(have, b.has), want)
	ops = slices.DeleteFunc(ops, func(op edge.Op) bool { return !slices.Contains(ramKinds, op.Kind) })
	switch part {
	case 1:
		ops = ops[:len(ops)/2]
	case 0:
		ops = nil
	}
	if part > 0 {
		b.writes++
		b.has = held(edge.Config{}, ops.Apply(held(have, b.has)))
	}
	return err
}

func (b *ramBox) Tunnels(ctx context.Context, c edge.Config) ([]edge.TunnelState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.begin(ctx); err != nil {
		return nil, err
	}
	var out []edge.TunnelState
	for _, n := range c.BGP.Neighbours {
		out = append(out, edge.TunnelState{Name: n.Tunnel, Up: true, BFD: true, BGP: true})
	}
	return out, nil
}

// holds is what the device has, for the test.
func (b *ramBox) holds() edge.Config {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.has
}

func (b *ramBox) set(change func(*ramBox)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
}

// confirmBox is a test device that takes back by itself what is not confirmed.
type confirmBox struct {
	*ramBox
	trial    edge.CommitID
	old      edge.Config
	deadline time.Time
	cannot   bool // it turns out not to return by itself
	yes      bool // it says yes to confirmations of what is not on trial
	mixed    bool // a change was made while one was on trial
}

func (c *confirmBox) settle() {
	if c.trial != "" && !time.Now().Before(c.deadline) {
		c.trial, c.has = "", c.old
	}
}

func (c *confirmBox) Read(ctx context.Context, cfg edge.Config) (edge.Config, error) {
	c.set(func(*ramBox) { c.settle() })
	return c.ramBox.Read(ctx, cfg)
}

func (c *confirmBox) holds() edge.Config {
	c.set(func(*ramBox) { c.settle() })
	return c.ramBox.holds()
}

func (c *confirmBox) Write(ctx context.Context, have, want edge.Config) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	c.mixed = c.mixed || c.trial != "" // RFC 6241 §8.4.1: it would confirm what is on trial
	return c.write(ctx, have, want, c.cannot)
}

func (c *confirmBox) Try(ctx context.Context, id edge.CommitID, have, want edge.Config, revert time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	switch {
	case c.cannot:
		return ErrEmulate
	case c.trial != "":
		return fmt.Errorf("%w: %q is on trial", edge.ErrRejected, c.trial)
	}
	old := c.has
	err := c.write(ctx, have, want, false)
	if !edge.Diff(old, c.has).Empty() || err == nil {
		c.trial, c.old, c.deadline = id, old, time.Now().Add(revert)
	}
	return err
}

func (c *confirmBox) Keep(ctx context.Context, id edge.CommitID) error {
	return c.finish(ctx, id, true)
}

func (c *confirmBox) Cancel(ctx context.Context, id edge.CommitID) error {
	return c.finish(ctx, id, false)
}

func (c *confirmBox) finish(ctx context.Context, id edge.CommitID, keep bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	if err := c.begin(ctx); err != nil {
		return err
	}
	switch {
	case c.cannot:
		return ErrEmulate
	case c.trial != id && keep && c.yes:
		return nil
	case c.trial != id:
		return fmt.Errorf("%w: %q is not on trial", edge.ErrRejected, id)
	}
	part, err := c.power.op()
	if err == nil && c.lose > 0 {
		c.lose--
		err = fmt.Errorf("%w: the answer was lost", edge.ErrUnreachable)
	}
	if part == 0 {
		return err
	}
	if c.trial = ""; !keep {
		c.has = c.old
	}
	return err
}
