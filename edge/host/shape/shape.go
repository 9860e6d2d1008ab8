// Package shape queues what leaves a box by its circuits: one HTB per circuit
// on an interface of its own (IFB), to which everything that its tunnels send is
// redirected before it is encrypted. It converges: what is as it should be is
// not touched, so that nothing that waits is lost.
package shape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

const limit = 10 * time.Second // of one call of tc

// Queues are the shapers of one box, in the network namespace of this process.
type Queues struct {
	tc  string // absolute path
	log *slog.Logger

	mu      sync.Mutex // guards below, and is held while queues are changed
	uploads map[string]uint64
	applied *render.Input // nil: nothing was yet
}

// Open finds tc.
func Open(log *slog.Logger) (*Queues, error) {
	path, err := program.Find("tc")
	if err != nil {
		return nil, fmt.Errorf("open queues: %w", err)
	}
	return &Queues{tc: path, log: log}, nil
}

// Name says what part of the box this is.
func (q *Queues) Name() string { return "queues" }

// Check lists what stands against shaping as in asks; it changes nothing.
func (q *Queues) Check(_ context.Context, in render.Input) error {
	var errs []error
	names := map[string]string{}
	for _, s := range render.Shape(in, nil) {
		if other, taken := names[s.Device]; taken {
			errs = append(errs, fmt.Errorf("%w: circuits %s and %s get the same queue %s; rename one", inventory.ErrInvalid, other, s.Circuit, s.Device))
		}
		names[s.Device] = s.Circuit
	}
	return errors.Join(errs...)
}

// Apply makes the box queue exactly as in asks.
func (q *Queues) Apply(ctx context.Context, in render.Input) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.converge(ctx, in); err != nil {
		return err
	}
	q.applied = &in
	return nil
}

// converge makes the box queue as in asks; q.mu is held.
func (q *Queues) converge(ctx context.Context, in render.Input) error {
	p, err := q.plan(ctx, render.Shape(in, q.uploads))
	if err != nil {
		return err
	}
	for _, c := range p.changes {
		q.log.Info("changing a queue", "change", c)
	}
	return q.carryOut(ctx, p)
}

// Follow makes the queues run at what their circuits were measured to carry,
// bit/s, by circuit; those that are missing run at their contract's rate. What
// waits in them stays.
func (q *Queues) Follow(ctx context.Context, uploads map[string]uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if maps.Equal(uploads, q.uploads) {
		return nil
	}
	old := q.uploads
	q.uploads = maps.Clone(uploads)
	if q.applied == nil {
		return nil
	}
	if err := q.converge(ctx, *q.applied); err != nil {
		q.uploads = old // so that the next call tries again
		return err
	}
	return nil
}

// Diff lists how the box's queues differ from what in asks; none: they do not.
func (q *Queues) Diff(ctx context.Context, in render.Input) ([]string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p, err := q.plan(ctx, render.Shape(in, q.uploads))
	return p.changes, err
}

// plan is what to change, in this order.
type plan struct {
	changes []string // for people
	before  []string // lines for tc: redirects that go, before their target does
	remove  []string // interfaces
	add     []render.Shaper
	after   []string // lines for tc: queues, then what is redirected to them
}

func (q *Queues) carryOut(ctx context.Context, p plan) error {
	if err := q.batch(ctx, p.before); err != nil {
		return err
	}
	for _, name := range p.remove {
		link, err := netlink.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil {
			return fmt.Errorf("remove queue %s: %w", name, err)
		}
	}
	for _, s := range p.add {
		if err := addDevice(s); err != nil {
			return fmt.Errorf("add queue %s of circuit %s: %w", s.Device, s.Circuit, err)
		}
	}
	return q.batch(ctx, p.after)
}

func (q *Queues) batch(ctx context.Context, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	if _, err := program.Run(ctx, limit, []byte(strings.Join(lines, "\n")+"\n"), q.tc, "-b", "-"); err != nil {
		return fmt.Errorf("change queues: %w", err)
	}
	return nil
}

// addDevice makes the interface that queues, and brings it up: what is
// redirected to one that is down is lost.
func addDevice(s render.Shaper) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = s.Device, max(s.MTU, 1500)
	if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
		return err
	}
	link, err := netlink.LinkByName(s.Device)
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetAlias(link, alias(s)), netlink.LinkSetUp(link))
}

// alias says what an interface is for, and all that cannot be read back from
// its queues.
func alias(s render.Shaper) string {
	names := make([]string, len(s.Classes))
	for i, c := range s.Classes {
		names[i] = c.Name
	}
	text := fmt.Sprintf("queue of %s, %d bytes over, cut %v: %s", s.Circuit, s.Overhead, s.Cut, strings.Join(names, ", "))
	for len(text) > 250 {
		text = text[:strings.LastIndexFunc(text[:250], func(c rune) bool { return c < 0x80 })]
	}
	return text
}

// plan compares the box with list.
func (q *Queues) plan(ctx context.Context, list []render.Shaper) (plan, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return plan{}, fmt.Errorf("read interfaces: %w", err)
	}
	have, err := q.read(ctx, links)
	if err != nil {
		return plan{}, err
	}
	var p plan
	fresh := map[string]bool{} // queues that are not there, or are made anew
	for _, l := range links {
		name := l.Attrs().Name
		if l.Type() != "ifb" || !ours(name) {
			continue
		}
		i := slices.IndexFunc(list, func(s render.Shaper) bool { return s.Device == name })
		if i >= 0 && have.tree[name].like(list[i]) && l.Attrs().Alias == alias(list[i]) {
			continue
		}
		fresh[name] = true
		p.remove = append(p.remove, name)
		p.changes = append(p.changes, "queue "+name+" goes")
	}
	for _, s := range list {
		if _, exists := have.tree[s.Device]; !exists || fresh[s.Device] {
			fresh[s.Device] = true
			p.add = append(p.add, s)
			p.after = append(p.after, treeLines(s)...)
			p.changes = append(p.changes, fmt.Sprintf("queue %s of circuit %s comes", s.Device, s.Circuit))
			continue
		}
		if lines := have.tree[s.Device].adjust(s); len(lines) > 0 {
			p.after = append(p.after, lines...)
			p.changes = append(p.changes, fmt.Sprintf("queue %s of circuit %s changes", s.Device, s.Circuit))
		}
	}
	p.redirects(links, list, have, fresh)
	return p, nil
}

// redirects plans which interface sends to which queue.
func (p *plan) redirects(links []netlink.Link, list []render.Shaper, have observed, fresh map[string]bool) {
	want := map[string]redirect{}
	for _, s := range list {
		for _, t := range s.Tunnels {
			want[t] = redirect{to: s.Device, program: unmeasured}
		}
		if s.Port != "" {
			want[s.Port] = redirect{to: s.Device, program: unmarked(s.Mark)}
		}
	}
	for _, l := range links {
		name := l.Attrs().Name
		w, wanted := want[name]
		h, has := have.redirect[name]
		if wanted && has && h.equal(w) && !fresh[w.to] {
			continue
		}
		if has {
			p.before = append(p.before, fmt.Sprintf("filter del dev %s egress pref %d", name, pref))
			p.changes = append(p.changes, name+" is not queued as it should be")
		}
		if !wanted {
			continue
		}
		if !have.clsact[name] {
			p.after = append(p.after, "qdisc add dev "+name+" clsact")
		}
		p.after = append(p.after, fmt.Sprintf("filter add dev %s egress pref %d protocol all bpf bytecode '%s' action mirred egress redirect dev %s",
			name, pref, bytecode(w.program), w.to))
		p.changes = append(p.changes, name+" goes to queue "+w.to)
	}
}
