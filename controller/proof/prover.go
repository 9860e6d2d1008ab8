package proof

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/inventory"
)

// Side is a city: what it wants and what its boxes would run.
type Side struct {
	// Key is the same for sides of the same content; empty: it is not known.
	Key string
	// Intent is the same for sides of the same inventory; empty: it is not known.
	Intent    string
	Inventory inventory.Inventory
	Boxes     []Box
}

// Prover proves revisions. It remembers what it has read of each box, so that a
// change at one site costs the reading of that site and of its hubs; what it says
// is the same as if it had read everything anew. Several controllers may share
// one. The zero value is ready.
type Prover struct {
	// Idle is how long what was read of the boxes is remembered after the last
	// question, but of more than [many] no longer than [soon]: that is hundreds of
	// megabytes. 0: for ever.
	Idle time.Duration

	mu    sync.Mutex // guards all below; one proof at a time
	rest  *time.Timer
	sc    *scanner
	known map[inventory.DeviceID][]cached // the last ones of each, newest first
	asked [2]map[string]*answer           // by family
	done  map[string]Result               // by the key of a side
	read  map[string]*intents             // by the intent of a side
}

// Of more boxes than many a plan takes seconds in any case, and soon after it the
// rollout needs the memory.
const (
	many = 4096
	soon = 10 * time.Second
)

// Forget drops what was read of the boxes. What was proven stays known, and
// what is asked next is read anew.
func (p *Prover) Forget() {
	p.mu.Lock()
	large := len(p.known) > many
	p.sc, p.known, p.asked, p.read = nil, nil, [2]map[string]*answer{}, nil
	p.mu.Unlock()
	if large { // or it is taken for in use until the heap has doubled
		debug.FreeOSMemory()
	}
}

// asleep begins to count the idle time anew; p.mu is held.
func (p *Prover) asleep() {
	idle := p.Idle
	if len(p.known) > many {
		idle = min(idle, soon)
	}
	switch {
	case idle <= 0:
	case p.rest == nil:
		p.rest = time.AfterFunc(idle, p.Forget)
	default:
		p.rest.Reset(idle)
	}
}

// cached is what was read of a box, and of what.
type cached struct {
	key string
	scanned
}

// most lists that nobody needs any more are kept until there are so many.
const staleLists = 4096

// scan reads the boxes of a side that have changed, and may forget those that are
// not there; p.mu is held.
func (p *Prover) scan(in *intents, boxes []Box, forget bool) ([]scanned, error) {
	if p.sc == nil || len(p.sc.lists.all) > staleLists+4*len(boxes) {
		p.sc, p.known, p.asked = newScanner(), map[inventory.DeviceID][]cached{}, [2]map[string]*answer{{}, {}}
	}
	out := make([]scanned, len(boxes))
	errs := make([]error, len(boxes))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	keys := make([]string, len(boxes))
	for i := range boxes {
		b := &boxes[i]
		keys[i] = in.key(b)
		if n := slices.IndexFunc(p.known[b.Device], func(k cached) bool { return b.Key != "" && k.key == keys[i] }); n >= 0 {
			out[i] = p.known[b.Device][n].scanned
			continue
		}
		g.Go(func() error {
			if out[i], errs[i] = p.sc.one(b, in); errs[i] != nil {
				errs[i] = fmt.Errorf("%w: device %s: %w", inventory.ErrInvalid, b.Device, errs[i])
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	if err := errors.Join(errs...); err != nil {
		return out, err
	}
	fresh := make(map[inventory.DeviceID][]cached, len(boxes))
	for i, b := range boxes {
		all := []cached{{keys[i], out[i]}}
		for _, k := range p.known[b.Device] {
			if k.key != keys[i] && len(all) < generations {
				all = append(all, k)
			}
		}
		fresh[b.Device] = all
	}
	if !forget {
		for id, all := range p.known {
			if fresh[id] == nil {
				fresh[id] = all
			}
		}
	}
	p.known = fresh
	for f := range p.asked {
		if len(p.asked[f]) > mostAnswers {
			p.asked[f] = map[string]*answer{}
		}
	}
	return out, nil
}

const (
	generations = 2    // of a box that are remembered: as it is, and as it shall be
	mostAnswers = 4096 // that are remembered of a family
	mostResults = 16   // that are remembered: revisions do not change
)

// intents reads the inventory of a side; p.mu is held.
func (p *Prover) intents(side Side) (*intents, error) {
	if x := p.read[side.Intent]; x != nil {
		return x, nil
	}
	x, err := newIntents(side.Inventory)
	if err != nil || side.Intent == "" {
		return x, err
	}
	if p.read == nil || len(p.read) >= 2*generations {
		p.read = map[string]*intents{}
	}
	p.read[side.Intent] = x
	return x, nil
}

// key is all that the reading of a box depends on.
func (x *intents) key(b *Box) string {
	out := make([]byte, 0, len(b.Key)+len(x.digest)+44*len(inventory.SegmentKinds))
	out = append(append(append(out, b.Key...), '\n'), x.digest...)
	for _, z := range x.zones[b.Site] {
		out = append(append(out, z.Kind...), '\n', flag(z.V4.IsValid()), flag(z.V6.IsValid()))
		out = appendPrefix(appendPrefix(out, z.V4), z.V6)
	}
	return string(out)
}

// Prove proves that no packet opens a flow that the inventory's permits do not
// name, in any state, and that what they name does pass, in the states that they
// must survive. The error lists what the proof does not understand: then nothing
// is proven.
func (p *Prover) Prove(side Side) (Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.done[side.Key]; ok && side.Key != "" {
		return r, nil
	}
	defer p.asleep()
	begin := time.Now()
	in, err := p.intents(side)
	if err != nil {
		return Result{}, err
	}
	scans, err := p.scan(in, side.Boxes, true)
	if err != nil {
		return Result{}, err
	}
	fails := failures(side.Inventory, side.Boxes)
	var g errgroup.Group // the families have nothing in common
	routing := make(chan *routes, 2)
	var faults []Counterexample
	g.Go(func() error {
		r := newRoutes(side.Inventory, side.Boxes, scans)
		faults = r.faults
		routing <- r
		routing <- r
		return nil
	})
	results := make([]Result, 2)
	for i, v6 := range []bool{false, true} {
		g.Go(func() error {
			c, err := newCuts(v6, p.sc, scans, in)
			if err != nil {
				return err
			}
			w, err := newWorld(c, side.Boxes, scans, in)
			if err != nil {
				return err
			}
			w.known = p.asked[i]
			one := prover{world: w, in: in, result: &results[i]}
			if err := one.all(); err != nil {
				return err
			}
			two := reacher{prover: &one, routes: <-routing, failures: fails}
			return two.all(side.Inventory)
		})
	}
	if err := g.Wait(); err != nil {
		return Result{}, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	r := Result{Intents: len(side.Inventory.Permits), States: len(fails), Counterexamples: faults}
	for _, x := range results {
		r.Pairs, r.Shared, r.Reached = r.Pairs+x.Pairs, r.Shared+x.Shared, r.Reached+x.Reached
		r.Counterexamples, r.Unreached, r.Risks = append(r.Counterexamples, x.Counterexamples...), append(r.Unreached, x.Unreached...), append(r.Risks, x.Risks...)
	}
	for _, s := range scans {
		r.Unreached = append(r.Unreached, s.control...)
	}
	r.Holds = len(r.Counterexamples) == 0 && len(r.Unreached) == 0
	r.Took = time.Since(begin)
	if p.done == nil || len(p.done) >= mostResults {
		p.done = map[string]Result{}
	}
	p.done[side.Key] = r
	return r, nil
}

// Compare says for all packets that may open a flow what passes after a change
// and did not before, and the other way round.
func (p *Prover) Compare(before, after Side) (Difference, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.asleep()
	var d Difference
	sides := []Side{before, after}
	var ins [2]*intents
	var scans [2][]scanned
	for i := len(sides) - 1; i >= 0; i-- { // what is remembered is most like what comes after
		var err error
		if ins[i], err = p.intents(sides[i]); err != nil {
			return d, err
		}
		if scans[i], err = p.scan(ins[i], sides[i].Boxes, false); err != nil {
			return d, err
		}
	}
	share(sides, ins, &scans)
	var g errgroup.Group
	parts := make([]*comparison, 2)
	for f, v6 := range []bool{false, true} {
		g.Go(func() error {
			c := &comparison{all: [2]map[string]*tally{{}, {}}}
			parts[f] = c
			both, err := newCuts(v6, p.sc, slices.Concat(scans[0], scans[1]), ins[:]...)
			if err != nil {
				return err
			}
			for i, s := range sides {
				w, err := newWorld(both, s.Boxes, scans[i], ins[i])
				if err != nil {
					return err
				}
				w.known = p.asked[f]
				c.sides[i] = &prover{world: w, in: ins[i], result: &Result{}}
				if c.sides[i].may, err = w.matrices(question{bound: atMost, some: w.s.news}); err != nil {
					return err
				}
			}
			c.run()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return d, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	for _, c := range parts {
		d.Allows, d.Denies = append(d.Allows, c.list(0)...), append(d.Denies, c.list(1)...)
	}
	return d, nil
}

// digestOf is what the reading of every box depends on.
func digestOf(inv inventory.Inventory) string {
	var b strings.Builder
	for _, p := range inv.Pools {
		fmt.Fprintln(&b, p.Prefix)
	}
	for _, a := range inv.Applications {
		fmt.Fprintln(&b, a.ID, a.Prefixes)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return string(sum[:])
}
