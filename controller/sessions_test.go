package controller

import (
	"context"
	"crypto"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/fake"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

const routerID inventory.DeviceID = "r-core"

// routing is what a router tells of its BGP sessions.
type routing struct {
	mu   sync.Mutex
	down map[string]bool // by the neighbour's name
	mute bool
}

func (r *routing) set(mute bool, down ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute, r.down = mute, map[string]bool{}
	for _, n := range down {
		r.down[n] = true
	}
}

// routed is a session with a router.
type routed struct {
	byHand
	tells *routing
}

func (r routed) State(ctx context.Context) (edge.State, error) {
	st, err := r.byHand.State(ctx)
	if err != nil {
		return st, err
	}
	doc, err := r.Running(ctx)
	r.tells.mu.Lock()
	defer r.tells.mu.Unlock()
	for _, n := range doc.Config.BGP.Neighbours {
		up := !r.tells.mute && !r.tells.down[n.Tunnel]
		st.Tunnels = append(st.Tunnels, edge.TunnelState{Name: n.Tunnel, Up: up, BGP: up, Unknown: r.tells.mute})
	}
	return st, err
}

func (r routed) Limits(edge.Config) []string { return []string{"this router cannot dance"} }

// routedTown is a town whose hubs' uplinks end at one router.
func routedTown(wards int) inventory.Inventory {
	inv := town(wards)
	inv.Sites = slices.Clone(inv.Sites)
	n := byte(0)
	var first inventory.SiteID
	for i := range inv.Sites {
		s := &inv.Sites[i]
		if s.Kind != inventory.Hub {
			continue
		}
		if first == "" {
			first = s.ID
		}
		s.Uplinks = []inventory.Uplink{{
			Name: "dc", Port: "up0", Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 255, n, 1}), 30),
			Peer: netip.AddrFrom4([4]byte{10, 255, n, 2}), PeerASN: 65010, Router: routerID,
		}}
		n++
	}
	inv.Routers = []inventory.Router{{
		ID: routerID, Serial: "R-1", Site: first, Platform: inventory.PlatformFRR, Intended: inventory.InService, Management: "192.0.2.6:22",
	}}
	return inv
}

// slower is routedTown with another timing of the router's BFD sessions.
func slower(t *testing.T, inv inventory.Inventory) inventory.Inventory {
	t.Helper()
	was, err := Compile(revisionOf(1, inv), routerID)
	if err != nil {
		t.Fatal(err)
	}
	now := was
	now.BGP.Neighbours = slices.Clone(was.BGP.Neighbours)
	for i := range now.BGP.Neighbours {
		now.BGP.Neighbours[i].BFDMult++
	}
	inv.Routers = slices.Clone(inv.Routers)
	if inv.Routers[0].Override, err = OverrideOf(was, now); err != nil {
		t.Fatal(err)
	}
	inv.Routers[0].OverrideReason = "a slow link"
	return inv
}

func newRoutedWorld(t *testing.T) (*world, []string) {
	inv := routedTown(2)
	w := newWorld(t, inv, slower(t, inv))
	w.routers = &routing{}
	w.devices[routerID] = fake.New(routerID, map[string]crypto.PublicKey{"k": signer().Public()})
	w.inventory = append(slices.Clone(w.inventory), inv.Routers[0].Device())
	cfg, err := Compile(w.revisions[1], routerID)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range cfg.BGP.Neighbours {
		names = append(names, n.Tunnel)
	}
	if len(names) != 2 {
		t.Fatalf("the router has the neighbours %v, want two", names)
	}
	return w, names
}

func (w *world) routerRuns(t *testing.T) uint64 {
	t.Helper()
	doc, err := w.devices[routerID].Running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return doc.Revision
}

// A push to a router is kept when its sessions with the hubs are established,
// and taken back when one is not.
func TestRouterSessionsAreWaitedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		down  []int // neighbours
		wants bool
	}{"all established": {nil, true}, "one is not": {[]int{1}, false}, "none is": {[]int{0, 1}, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, names := newRoutedWorld(t)
				l := w.start(Config{})
				defer l.end()
				if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
					t.Fatal(err)
				}
				l.wait(1, 3*time.Minute, RolloutDone)
				var down []string
				for _, i := range tt.down {
					down = append(down, names[i])
				}
				wake := time.AfterFunc(time.Second, func() { w.routers.set(false, down...) }) // after it was seen up
				defer wake.Stop()
				w.mu.Lock()
				w.takes = 2 * time.Second
				w.mu.Unlock()
				if _, err := l.StartRollout(t.Context(), 2, "lan"); err != nil {
					t.Fatal(err)
				}
				if tt.wants {
					l.wait(2, 3*time.Minute, RolloutDone)
					if n := w.routerRuns(t); n != 2 {
						t.Errorf("it runs revision %d, want 2", n)
					}
					return
				}
				r := l.wait(2, 3*time.Minute, RolloutHalted, RolloutReturning, RolloutDone)
				want := fmt.Sprintf("%d BGP sessions are not established (%s)", len(down), strings.Join(down, ", "))
				if r.State == RolloutDone || !strings.Contains(r.Reason, want) {
					t.Fatalf("the rollout is %s: %s; want %q", r.State, r.Reason, want)
				}
				time.Sleep(2 * time.Minute)
				if _, confirms := w.devices[routerID].Counts(); w.routerRuns(t) == 2 || confirms < 1 {
					t.Errorf("it runs revision 2 although it was not confirmed")
				}
			})
		})
	}
}

// A session that cannot come up is not asked for: one that was down before the
// change, and one whose hub cannot be reached. What a device does not tell holds
// up nothing, and is said in its row and in the next plan.
func TestRouterSessionsThatAreNotAskedFor(t *testing.T) {
	start := func(t *testing.T, l *life, n intent.Number) {
		t.Helper()
		if _, err := l.StartRollout(t.Context(), n, "lan"); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("down before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, names := newRoutedWorld(t)
			l := w.start(Config{})
			defer l.end()
			start(t, l, 1)
			l.wait(1, 3*time.Minute, RolloutDone)
			w.routers.set(false, names[0])
			start(t, l, 2)
			l.wait(2, 3*time.Minute, RolloutDone)
		})
	})
	t.Run("hub away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, names := newRoutedWorld(t)
			l := w.start(Config{})
			defer l.end()
			start(t, l, 1)
			l.wait(1, 3*time.Minute, RolloutDone)
			hub, _, _ := strings.Cut(names[0], "/")
			w.devices[inventory.DeviceID(hub)].Break(fake.Faults{Unreachable: true})
			l.Down(inventory.DeviceID(hub))
			time.Sleep(time.Second)
			wake := time.AfterFunc(time.Second, func() { w.routers.set(false, names[0]) }) // after it was seen up
			defer wake.Stop()
			w.mu.Lock()
			w.takes = 2 * time.Second
			w.mu.Unlock()
			start(t, l, 2)
			l.wait(2, 3*time.Minute, RolloutDone)
		})
	})
	t.Run("not told", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, names := newRoutedWorld(t)
			w.routers.set(true)
			l := w.start(Config{})
			defer l.end()
			start(t, l, 1)
			l.wait(1, 3*time.Minute, RolloutDone)
			s, err := l.Status(routerID)
			said := strings.Join(s.Limits, "; ")
			if err != nil || !strings.Contains(said, "cannot dance") || !strings.Contains(said, strings.Join(names, ", ")) {
				t.Errorf("its row says %q, %v", said, err)
			}
			p, err := l.Plan(t.Context(), 2)
			if err != nil || len(p.Devices) != 1 || !strings.Contains(strings.Join(p.Devices[0].Reasons, "; "), said) {
				t.Errorf("the plan says %+v, %v; want %q in it", p.Devices, err, said)
			}
			w.routers.set(false)
			time.Sleep(time.Minute)
			if s, err := l.Status(routerID); err != nil || strings.Contains(strings.Join(s.Limits, "; "), "does not tell") {
				t.Errorf("its row still says %q, %v", s.Limits, err)
			}
		})
	})
}
