package strongswan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
)

const (
	lookEvery  = time.Second
	maxSilent  = 3               // looks without an answer, until charon is killed
	settled    = 2 * time.Second // after this the newer of two IKE SAs is the only one
	maxBackoff = 15 * time.Second
)

// State is one tunnel as charon has it.
type State struct {
	Name        string
	Up          bool          // a CHILD SA is installed
	Established time.Duration // age of the IKE SA
	Rekeys      uint64        // times the CHILD SA was replaced within its IKE SA, as seen by this driver
	InBytes     uint64        // of the CHILD SA in use: they start again with each
	OutBytes    uint64
}

// seen is the CHILD SA a tunnel was last seen with.
type seen struct {
	ike, child string
	rekeys     uint64
}

// backoff is when a tunnel that is down may be asked for again.
type backoff struct {
	wait time.Duration
	next time.Time
}

// childSA is one installed CHILD SA and its IKE SA.
type childSA struct {
	ike         string // unique id
	age         time.Duration
	id          string
	in, out     uint64 // bytes
	established bool
}

// State returns the tunnels in force, in order. Those that no charon has are
// down.
func (d *Driver) State(ctx context.Context) ([]State, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		return nil, nil
	}
	var found map[string][]childSA
	s, err := dial(ctx, d.charon.socket())
	if err == nil {
		defer s.close()
		var sas []*section
		if sas, err = s.stream(ctx, "list-sas", "list-sa", nil); err == nil {
			found = children(sas)
		}
	}
	if err != nil && !errors.Is(err, edge.ErrUnreachable) {
		return nil, err
	}
	out := make([]State, 0, len(d.last.tunnels))
	for _, t := range d.last.tunnels {
		st := State{Name: t.Name}
		if c, ok := newest(found[key(t)]); ok {
			st.Up, st.Established, st.InBytes, st.OutBytes = true, c.age, c.in, c.out
			st.Rekeys = d.note(t.Name, c)
		}
		out = append(out, st)
	}
	return out, nil
}

// note counts rekeys: another CHILD SA of the same IKE SA.
func (d *Driver) note(tunnel string, c childSA) uint64 {
	was := d.seen[tunnel]
	now := seen{ike: c.ike, child: c.id, rekeys: was.rekeys}
	if was.ike == c.ike && was.child != c.id {
		now.rekeys++
	}
	d.seen[tunnel] = now
	return now.rekeys
}

// Run keeps the tunnels in force until ctx ends: it starts a charon that ended,
// kills one that hangs, and asks for tunnels that are down.
func (d *Driver) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		text := ""
		if err := d.look(ctx); err != nil && ctx.Err() == nil {
			text = err.Error()
		}
		if text != "" && text != said {
			d.log.ErrorContext(ctx, "ipsec tunnels not kept", "err", text)
		}
		said = text
	}
}

func (d *Driver) look(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.last.needsCharon() {
		return nil
	}
	s, err := dial(ctx, d.charon.socket())
	if err != nil {
		d.log.WarnContext(ctx, "charon is gone, starting it", "err", err)
		return d.converge(ctx, d.last)
	}
	defer s.close()
	pid, err := s.pid()
	if err != nil {
		return err
	}
	if pid != d.loaded.pid {
		return d.converge(ctx, d.last)
	}
	if err := d.keepUp(ctx, s); err != nil {
		if !errors.Is(err, edge.ErrUnreachable) {
			return err
		}
		if d.silent++; d.silent < maxSilent {
			return err
		}
		d.silent = 0
		return errors.Join(fmt.Errorf("charon hangs, killing it: %w", err), d.charon.kill(pid))
	}
	d.silent = 0
	return d.charon.trimLog()
}

func (d *Driver) keepUp(ctx context.Context, s *client) error {
	if err := d.cutUnwanted(ctx, s, d.last); err != nil {
		return err
	}
	return d.askFor(ctx, s, d.last)
}

// cutUnwanted ends every IKE SA without a wanted CHILD SA, every CHILD SA that
// no tunnel wants, and of two IKE SAs for one tunnel the older: its other end
// has started anew and forgotten it.
func (d *Driver) cutUnwanted(ctx context.Context, s *client, want *wanted) error {
	sas, err := s.stream(ctx, "list-sas", "list-sa", nil)
	if err != nil {
		return err
	}
	wantIKE, wantChild := map[string]bool{}, map[string]bool{}
	for _, t := range want.tunnels {
		if t.Admitted {
			ike, child := render.IPsecNames(t)
			wantIKE[ike], wantChild[ike+"/"+child] = true, true
		}
	}
	found := children(sas)
	for _, top := range sas {
		for _, ike := range top.sections {
			// A responder's SA has no name until its peer has been recognised.
			if ike.name != "(unnamed)" && !wantIKE[ike.name] {
				if err := terminate(ctx, s, "ike-id", ike.values["uniqueid"]); err != nil {
					return err
				}
				continue
			}
			for _, c := range ike.sub("child-sas").sections {
				if wantIKE[ike.name] && !wantChild[ike.name+"/"+c.values["name"]] {
					if err := terminate(ctx, s, "child-id", c.values["uniqueid"]); err != nil {
						return err
					}
				}
			}
		}
	}
	for _, list := range found {
		last, _ := newest(list)
		for _, c := range list {
			if c.ike == last.ike || last.age < settled || !c.established {
				continue
			}
			if err := terminate(ctx, s, "ike-id", c.ike); err != nil {
				return err
			}
		}
	}
	return nil
}

// terminate ends an SA here and now; the peer is told once.
func terminate(ctx context.Context, s *client, what, id string) error {
	_, err := s.call(ctx, "terminate", new(message).set(what, id).set("force", "yes").set("timeout", "-1"))
	if errors.Is(err, edge.ErrRejected) {
		return nil // it ended by itself
	}
	return err
}

// askFor has charon set up the edge's tunnels that are down and not under way,
// the longer apart the more often it was in vain. It does not wait for them.
func (d *Driver) askFor(ctx context.Context, s *client, want *wanted) error {
	if want.tunnels[0].Hub {
		return nil
	}
	sas, err := s.stream(ctx, "list-sas", "list-sa", nil)
	if err != nil {
		return err
	}
	found, busy := children(sas), map[string]bool{}
	for _, top := range sas {
		for _, ike := range top.sections {
			busy[ike.name] = busy[ike.name] || ike.values["state"] == "CONNECTING"
		}
	}
	now := time.Now()
	for _, t := range want.tunnels {
		ike, child := render.IPsecNames(t)
		switch b := d.ask[t.Name]; {
		case len(found[key(t)]) > 0:
			delete(d.ask, t.Name)
			continue
		case !t.Admitted || busy[ike] || now.Before(b.next):
			continue
		default:
			b.wait = min(max(2*b.wait, lookEvery), maxBackoff)
			b.next = now.Add(b.wait)
			d.ask[t.Name] = b
		}
		_, err := s.call(ctx, "initiate", new(message).set("ike", ike).set("child", child).set("timeout", "-1").set("init-limits", "no"))
		if err != nil && !errors.Is(err, edge.ErrRejected) {
			return err
		}
	}
	return nil
}

func key(t render.IPsecTunnel) string {
	ike, child := render.IPsecNames(t)
	return ike + "/" + child
}

// children sorts the installed CHILD SAs by connection and name.
func children(sas []*section) map[string][]childSA {
	out := map[string][]childSA{}
	for _, top := range sas {
		for _, ike := range top.sections {
			for _, c := range ike.sub("child-sas").sections {
				if c.values["state"] != "INSTALLED" && c.values["state"] != "REKEYING" {
					continue
				}
				k := ike.name + "/" + c.values["name"]
				out[k] = append(out[k], childSA{
					ike: ike.values["uniqueid"], id: c.values["uniqueid"], established: ike.values["state"] == "ESTABLISHED",
					age: time.Duration(number(ike.values["established"])) * time.Second,
					in:  number(c.values["bytes-in"]), out: number(c.values["bytes-out"]),
				})
			}
		}
	}
	return out
}

// newest is the last of the CHILD SAs to be set up: charon numbers them.
func newest(list []childSA) (childSA, bool) {
	if len(list) == 0 {
		return childSA{}, false
	}
	return slices.MaxFunc(list, func(a, b childSA) int { return int(int64(number(a.id)) - int64(number(b.id))) }), true
}

// number reads a count; what is not one counts as zero.
func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
