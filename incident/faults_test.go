package incident_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/incident"
	"github.com/wardnet/wardnet/inventory"
)

// noc is the whole chain over a world: detectors and book.
type noc struct {
	t      testing.TB
	w      *world
	store  *memory
	engine *anomaly.Engine
	book   *incident.Book
	ticks  int
}

func newNOC(t testing.TB, w *world) *noc {
	n := &noc{t: t, w: w, store: &memory{}}
	n.start()
	n.run(60 * time.Second) // all sessions come up
	if len(n.store.docs) > 0 {
		t.Fatalf("start-up made incidents: %v", n.summary())
	}
	return n
}

// start is a controller's start: what is remembered is in the store.
func (n *noc) start() {
	n.t.Helper()
	topo := incident.NewTopology(n.w.inv)
	var err error
	n.book, err = incident.NewBook(incident.Deps{
		Store: n.store, Topology: func() *incident.Topology { return topo }, Log: discard(),
	}, incident.Config{})
	if err != nil {
		n.t.Fatal(err)
	}
	n.engine, err = anomaly.NewEngine(anomaly.Deps{Emit: n.book.Observe}, anomaly.Config{})
	if err != nil {
		n.t.Fatal(err)
	}
	seeds, err := n.book.Load(n.t.Context(), n.w.now)
	if err != nil {
		n.t.Fatal(err)
	}
	n.engine.Seed(seeds)
}

func (n *noc) run(d time.Duration) {
	n.t.Helper()
	for end := n.w.now.Add(d); n.w.now.Before(end); {
		for _, s := range n.w.step() {
			n.engine.Observe(s)
		}
		if n.ticks++; n.ticks%2 == 0 {
			n.engine.Tick(n.w.now)
			if err := n.book.Tick(n.t.Context(), n.w.now); err != nil {
				n.t.Fatal(err)
			}
		}
	}
}

func (n *noc) summary() (out []string) {
	for _, d := range n.store.docs {
		s := fmt.Sprintf("%s %s %s %s members=%v reopened=%d merged=%q", d.ID, d.State, d.Cause.Kind, d.Cause.ID, d.Members, d.Reopened, d.MergedInto)
		for _, e := range d.Timeline {
			s += fmt.Sprintf("\n    %s %s %s", e.At.Format("15:04:05"), e.What, e.Text)
		}
		out = append(out, s)
	}
	return out
}

// fault is one injected cause and what must come of it.
type fault struct {
	at      time.Time
	cause   incident.Cause
	members []inventory.SiteID
	heal    func()
}

func (n *noc) cutCarrier(k inventory.CarrierID, sites []inventory.SiteID) fault {
	var cut []inventory.CircuitID
	for _, s := range sites {
		for _, c := range n.w.circuitsAt(s) {
			if n.w.carrier(c) == k {
				cut = append(cut, c)
				n.w.cut[c] = true
			}
		}
	}
	return fault{n.w.now, incident.Cause{Kind: incident.CauseCarrier, ID: string(k)}, sites, func() {
		for _, c := range cut {
			delete(n.w.cut, c)
		}
	}}
}

func (n *noc) cutHub(s inventory.SiteID) fault {
	n.w.off[s] = true
	members := []inventory.SiteID{s}
	for _, site := range n.w.inv.Sites {
		if slices.Contains(site.Hubs, s) {
			members = append(members, site.ID)
		}
	}
	return fault{n.w.now, incident.Cause{Kind: incident.CauseHub, ID: string(s)}, members, func() { delete(n.w.off, s) }}
}

func (n *noc) cutSite(s inventory.SiteID) fault {
	n.w.off[s] = true
	return fault{n.w.now, incident.Cause{Kind: incident.CauseSite, ID: string(s)}, []inventory.SiteID{s}, func() { delete(n.w.off, s) }}
}

func (n *noc) cutCircuit(c inventory.CircuitID, s inventory.SiteID) fault {
	n.w.cut[c] = true
	cause := incident.Cause{Kind: incident.CauseCircuit, ID: string(c)}
	if len(n.w.circuitsAt(s)) == 1 { // nobody can tell it from the site
		cause = incident.Cause{Kind: incident.CauseSite, ID: string(s)}
	}
	return fault{n.w.now, cause, []inventory.SiteID{s}, func() { delete(n.w.cut, c) }}
}

// wardsWith lists some sites with a circuit of k.
func (n *noc) wardsWith(k inventory.CarrierID, count int) (out []inventory.SiteID) {
	for _, i := range n.w.rng.Perm(len(n.w.inv.Sites)) {
		s := n.w.inv.Sites[i]
		if len(out) < count && s.Kind != inventory.Hub && slices.ContainsFunc(n.w.circuitsAt(s.ID), func(c inventory.CircuitID) bool { return n.w.carrier(c) == k }) {
			out = append(out, s.ID)
		}
	}
	return out
}

func (n *noc) ward() inventory.SiteID {
	return n.w.inv.Sites[2+n.w.rng.IntN(len(n.w.inv.Sites)-2)].ID
}

// check compares the book with the faults, one to one.
func (n *noc) check(faults ...fault) {
	n.t.Helper()
	if len(n.store.docs) != len(faults) {
		n.t.Fatalf("%d incidents for %d faults: %s", len(n.store.docs), len(faults), join(n.summary()))
	}
	for _, f := range faults {
		i := slices.IndexFunc(n.store.docs, func(d incident.Incident) bool { return d.Cause == f.cause })
		if i < 0 {
			n.t.Fatalf("no incident with cause %v: %s", f.cause, join(n.summary()))
		}
		d := n.store.docs[i]
		slices.Sort(f.members)
		if !slices.Equal(d.Members, f.members) {
			n.t.Errorf("%v: members %v, want %v\n%s", f.cause, d.Members, f.members, join(n.summary()))
		}
		if took := d.Opened.Sub(f.at); took >= 30*time.Second {
			n.t.Errorf("%v: opened after %s", f.cause, took)
		}
		if d.Started.Before(f.at) || d.Started.Sub(f.at) > 25*time.Second {
			n.t.Errorf("%v: starts %s after the fault", f.cause, d.Started.Sub(f.at))
		}
		if d.Title["vi"] == "" || d.Title["en"] == "" || len(d.Evidence) == 0 || len(d.Suggested) == 0 || d.SeverityWhy == "" {
			n.t.Errorf("%v: incomplete ticket %+v", f.cause, d)
		}
	}
}

func (n *noc) checkResolved() {
	n.t.Helper()
	for _, d := range n.store.docs {
		if d.State != incident.Resolved {
			n.t.Errorf("not resolved: %s", join(n.summary()))
		}
		for _, s := range d.Symptoms {
			if s.To.IsZero() {
				n.t.Errorf("%s: symptom %s %s is still open", d.ID, s.Kind, s.Object)
			}
		}
	}
}

func join(list []string) string {
	out := ""
	for _, s := range list {
		out += "\n  " + s
	}
	return out
}

// TestOneIncidentPerFault is the promise of this package: for random cities and
// faults there is exactly one incident per fault, with its cause and members.
func TestOneIncidentPerFault(t *testing.T) {
	for name, inject := range map[string]func(*noc) []fault{
		"carrier": func(n *noc) []fault {
			k := []inventory.CarrierID{"vnpt", "viettel", "fpt"}[n.w.rng.IntN(3)]
			return []fault{n.cutCarrier(k, n.wardsWith(k, 3+n.w.rng.IntN(10)))}
		},
		"carrier, links stay up": func(n *noc) []fault {
			n.w.silent = true
			return []fault{n.cutCarrier("vnpt", n.wardsWith("vnpt", 5+n.w.rng.IntN(8)))}
		},
		"two carriers 40 s apart": func(n *noc) []fault {
			a := n.cutCarrier("vnpt", n.wardsWith("vnpt", 12))
			n.run(40 * time.Second)
			return []fault{a, n.cutCarrier("fpt", n.wardsWith("fpt", 9))}
		},
		"two carriers at one time": func(n *noc) []fault {
			// Of 208 sites 12 and 9 seldom meet; here each takes its own wards.
			a := n.wardsWith("vnpt", 8)
			b := slices.DeleteFunc(n.wardsWith("viettel", 14), func(s inventory.SiteID) bool { return slices.Contains(a, s) })
			return []fault{n.cutCarrier("vnpt", a), n.cutCarrier("viettel", b)}
		},
		"hub":  func(n *noc) []fault { return []fault{n.cutHub("hub-1")} },
		"site": func(n *noc) []fault { return []fault{n.cutSite(n.ward())} },
		"circuit": func(n *noc) []fault {
			s := n.ward()
			return []fault{n.cutCircuit(n.w.circuitsAt(s)[0], s)}
		},
		"circuit while a hub is down": func(n *noc) []fault {
			hub := n.cutHub("hub-2")
			n.run(90 * time.Second)
			s := n.ward()
			for len(n.w.circuitsAt(s)) < 2 {
				s = n.ward()
			}
			return []fault{hub, n.cutCircuit(n.w.circuitsAt(s)[0], s)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(6) {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(seed, 7))
					n := newNOC(t, newWorld(rng, 30+rng.IntN(40)))
					faults := inject(n)
					n.run(75 * time.Second)
					n.check(faults...)
					for _, f := range faults {
						f.heal()
					}
					n.run(75 * time.Second)
					n.check(faults...)
					n.checkResolved()
				})
			}
		})
	}
}
