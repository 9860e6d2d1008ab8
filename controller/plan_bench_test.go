package controller

import (
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// nation is the city's hubs, applications and permits with n sites of the kinds
// that the city has: the shape of the national inventory, which has 3,321 units.
func nation(t testing.TB, n int) inventory.Inventory {
	t.Helper()
	inv := city()
	x := inv.Index()
	all := inv.Sites
	var keep inventory.Inventory
	owners := map[string]bool{}
	for _, s := range all {
		if s.Kind != inventory.Hub {
			continue
		}
		keep.Sites = append(keep.Sites, s)
		keep.Devices = append(keep.Devices, x.SiteDevices(s.ID)...)
		keep.Circuits = append(keep.Circuits, x.SiteCircuits(s.ID)...)
		owners[inventory.SiteOwner(s.ID)] = true
		for _, d := range x.SiteDevices(s.ID) {
			owners[inventory.DeviceOwner(d.ID)] = true
		}
	}
	inv.Applications = slices.DeleteFunc(slices.Clone(inv.Applications), func(a inventory.Application) bool {
		return a.Site != "" && !slices.ContainsFunc(keep.Sites, func(s inventory.Site) bool { return s.ID == a.Site })
	})
	inv.Permits = slices.DeleteFunc(slices.Clone(inv.Permits), func(p inventory.Permit) bool {
		return p.ToApp != "" && !slices.ContainsFunc(inv.Applications, func(a inventory.Application) bool { return a.ID == p.ToApp })
	})
	inv.Allocations = slices.DeleteFunc(slices.Clone(inv.Allocations), func(a inventory.Allocation) bool { return !owners[a.Owner] })
	inv.Pools = slices.Clone(inv.Pools)
	for i := range inv.Pools {
		if inv.Pools[i].Kind == inventory.PoolSite4 { // full: the hubs keep what they have
			inv.Pools[i].Bits = 22
		}
	}
	inv.Pools = append(inv.Pools,
		inventory.Pool{ID: "site6-b", Kind: inventory.PoolSite6, Prefix: netip.MustParsePrefix("fd5a:7e3c:91b5::/48"), Bits: 60},
		inventory.Pool{ID: "tunnel4-b", Kind: inventory.PoolTunnel4, Prefix: netip.MustParsePrefix("172.18.0.0/16"), Bits: 31})
	for k, i := 0, 0; i < n; k++ {
		s := all[k%len(all)]
		if s.Kind == inventory.Hub {
			continue
		}
		old := s.ID
		s.ID = inventory.SiteID(fmt.Sprintf("x-%06d", i))
		keep.Sites = append(keep.Sites, s)
		keep.Devices = append(keep.Devices, inventory.Device{
			ID: inventory.DeviceID("d-" + string(s.ID)), Serial: fmt.Sprintf("X%06d", i), Site: s.ID, Platform: inventory.LinuxEdge, Role: inventory.RoleEdge, Intended: inventory.InService,
		})
		for j, c := range x.SiteCircuits(old) {
			c.ID, c.Site = inventory.CircuitID(fmt.Sprintf("cx-%06d-%d", i, j)), s.ID
			if c.Address.IsValid() {
				c.Addressing, c.Address, c.Gateway = inventory.DHCP, netip.Prefix{}, netip.Addr{}
			}
			keep.Circuits = append(keep.Circuits, c)
		}
		i++
	}
	inv.Sites, inv.Devices, inv.Circuits = keep.Sites, keep.Devices, keep.Circuits
	inv, err := inventory.Allocate(inv.Normalize())
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// peak watches the heap while something runs, in bytes.
func peak(run func()) uint64 {
	var most atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	run()
	close(stop)
	<-done
	return most.Load()
}

// BenchmarkPlan compiles a revision, plans it, proves it and compares it with
// what is in force, rendering and reading included: first all of it, then after
// a change at one site, with what is remembered.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{206, 3321} {
		inv := nation(b, n)
		plan := func(p *proof.Prover, number intent.Number, inv inventory.Inventory, before *Compiled) *Compiled {
			to, err := CompileAgain(intent.Revision{Number: number, Org: inv.Org, Author: "lan", Content: inv, Hash: fmt.Sprint(number)}, before)
			if err != nil {
				b.Fatal(err)
			}
			var old proof.Side
			if before != nil {
				MakePlan(before.Devices, to)
				old = proof.Side{Intent: before.Hash, Inventory: *before.Content, Boxes: proofBoxes(before.Devices)}
			}
			side := proof.Side{Key: to.Hash, Intent: to.Hash, Inventory: *to.Content, Boxes: proofBoxes(to.Devices)}
			r, err := p.Prove(side)
			if err != nil || !r.Holds {
				b.Fatal(err, r.Counterexamples, r.Unreached)
			}
			if _, err := p.Compare(old, side); err != nil {
				b.Fatal(err)
			}
			return to
		}
		b.Run(fmt.Sprintf("sites=%d/first", n), func(b *testing.B) {
			debug.FreeOSMemory()
			b.ReportMetric(float64(peak(func() {
				for b.Loop() {
					plan(&proof.Prover{}, 1, inv, nil)
				}
			}))/1e6, "MB")
		})
		b.Run(fmt.Sprintf("sites=%d/one-site", n), func(b *testing.B) {
			var p proof.Prover
			before := plan(&p, 1, inv, nil)
			number := intent.Number(1)
			for b.Loop() { // another site each time: what comes back would be remembered
				number++
				next := inv
				next.Sites = slices.Clone(inv.Sites)
				s := &next.Sites[int(number)%len(next.Sites)]
				s.Segments = slices.Clone(s.Segments)
				for i := range s.Segments {
					if s.Segments[i].Kind == inventory.IoT {
						s.Segments[i].Unused = "cameras moved"
					}
				}
				inv = next
				before = plan(&p, number, next, before)
			}
		})
	}
}
