package controller

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/internal/golden"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/inventory/sample"
)

// revisionOf wraps an inventory as revision n.
func revisionOf(n intent.Number, inv inventory.Inventory) intent.Revision {
	r := intent.Revision{Number: n, Org: inv.Org, Author: "lan", Content: inv}
	var err error
	if r.Hash, err = intent.ContentHash(r); err != nil {
		panic(err)
	}
	return r
}

// city is read once; town and others clone what they change.
var city = sync.OnceValue(sample.City)

// town cuts the city down to its hubs, n other sites, and what they need.
func town(n int) inventory.Inventory {
	inv := city()
	keep := map[inventory.SiteID]bool{}
	for _, s := range inv.Sites {
		if s.Kind == inventory.Hub || n > 0 {
			keep[s.ID] = true
			if s.Kind != inventory.Hub {
				n--
			}
		}
	}
	inv.Sites = slices.DeleteFunc(slices.Clone(inv.Sites), func(s inventory.Site) bool { return !keep[s.ID] })
	inv.Devices = slices.DeleteFunc(slices.Clone(inv.Devices), func(d inventory.Device) bool { return !keep[d.Site] })
	inv.Circuits = slices.DeleteFunc(slices.Clone(inv.Circuits), func(c inventory.Circuit) bool { return !keep[c.Site] })
	inv.Applications = slices.DeleteFunc(slices.Clone(inv.Applications), func(a inventory.Application) bool { return a.Site != "" && !keep[a.Site] })
	owners := map[string]bool{}
	for _, s := range inv.Sites {
		owners[inventory.SiteOwner(s.ID)] = true
	}
	for _, d := range inv.Devices {
		owners[inventory.DeviceOwner(d.ID)] = true
		for _, c := range inv.Circuits {
			owners[inventory.TunnelOwner(c.ID, d.ID)] = true
		}
	}
	inv.Allocations = slices.DeleteFunc(slices.Clone(inv.Allocations), func(a inventory.Allocation) bool { return !owners[a.Owner] })
	inv.Permits, inv.Pools = slices.Clone(inv.Permits), slices.Clone(inv.Pools)
	inv.Units, inv.Carriers = slices.Clone(inv.Units), slices.Clone(inv.Carriers)
	return inv
}

func mustCompile(t testing.TB, n intent.Number, inv inventory.Inventory) *Compiled {
	t.Helper()
	c, err := CompileAll(revisionOf(n, inv))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func hubOf(t testing.TB, inv inventory.Inventory) inventory.DeviceID {
	t.Helper()
	for _, d := range inv.Devices {
		if d.Role == inventory.RoleHub {
			return d.ID
		}
	}
	t.Fatal("no hub")
	return ""
}

func wardOf(t testing.TB, inv inventory.Inventory) inventory.DeviceID {
	t.Helper()
	for _, d := range inv.Devices {
		if d.Role == inventory.RoleEdge {
			return d.ID
		}
	}
	t.Fatal("no edge")
	return ""
}

func TestCompileGolden(t *testing.T) {
	inv := town(3)
	rev := revisionOf(1, inv)
	for name, id := range map[string]inventory.DeviceID{"ward": wardOf(t, inv), "hub": hubOf(t, inv)} {
		cfg, err := Compile(rev, id)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.MarshalIndent(cfg, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		golden.Check(t, name, string(b)+"\n")
	}
}

// The whole city: fast, every tunnel at exactly two devices with mirrored
// addresses, no source admitted from two sites at a hub.
func TestCompileCity(t *testing.T) {
	inv := sample.City()
	start := time.Now()
	c := mustCompile(t, 1, inv)
	t.Logf("%d devices in %s", len(c.Devices), time.Since(start))
	if len(c.Devices) != 208 {
		t.Errorf("%d devices, want 208", len(c.Devices))
	}
	checkNetwork(t, c)
	for id, w := range c.Devices {
		if w.Config.Role == inventory.RoleEdge && len(w.Config.Tunnels) < 2 {
			t.Errorf("%s has %d tunnels; want one to each hub at least", id, len(w.Config.Tunnels))
		}
		if len(w.Config.Rules) == 0 {
			t.Errorf("%s lets nothing pass", id)
		}
	}
}

type failer interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
}

func checkNetwork(t failer, c *Compiled) {
	t.Helper()
	ends := map[string][]edge.Tunnel{}
	for _, w := range c.Devices {
		for _, tn := range w.Config.Tunnels {
			ends[tn.Name] = append(ends[tn.Name], tn)
		}
		if !slices.IsSortedFunc(w.Config.Tunnels, func(a, b edge.Tunnel) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) }) {
			t.Errorf("%s: tunnels are not sorted", w.Config.Device)
		}
		if w.Config.Role == inventory.RoleHub {
			checkHub(t, w.Config)
		}
	}
	for name, e := range ends {
		if len(e) != 2 {
			t.Fatalf("tunnel %s has %d ends", name, len(e))
		}
		a, b := e[0], e[1]
		if a.Local.Addr() != b.Remote || b.Local.Addr() != a.Remote || a.Local.Masked() != b.Local.Masked() {
			t.Errorf("tunnel %s is not mirrored: %v→%v and %v→%v", name, a.Local, a.Remote, b.Local, b.Remote)
		}
		if a.MTU != b.MTU || a.Preference != b.Preference || a.Endpoint.IsValid() == b.Endpoint.IsValid() {
			t.Errorf("tunnel %s: ends disagree: %+v %+v", name, a, b)
		}
		if max(a.Endpoint.Port(), b.Endpoint.Port()) != max(a.ListenPort, b.ListenPort) {
			t.Errorf("tunnel %s is dialled at another port than the hub listens on", name)
		}
	}
}

// checkHub: no address is admitted from two peers, and none twice on one port.
func checkHub(t failer, hub edge.Config) {
	t.Helper()
	type admitted struct {
		p    netip.Prefix
		peer inventory.DeviceID
		port uint16
	}
	var all []admitted
	for _, tn := range hub.Tunnels {
		for _, p := range tn.AllowedIPs {
			all = append(all, admitted{p, tn.Peer, tn.ListenPort})
		}
	}
	slices.SortFunc(all, func(a, b admitted) int { return comparePrefix(a.p, b.p) })
	for i := 1; i < len(all); i++ { // sorted, so an overlap is between neighbours or hides behind equals
		for j := i - 1; j >= 0 && all[j].p.Overlaps(all[i].p); j-- {
			if all[j].peer != all[i].peer || all[j].port == all[i].port {
				t.Errorf("%s admits %v from %s:%d and %v from %s:%d", hub.Device, all[j].p, all[j].peer, all[j].port, all[i].p, all[i].peer, all[i].port)
			}
		}
	}
}

// Any part of the city, in any order, compiles to the same bytes.
func TestCompileIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv := town(rapid.IntRange(1, 12).Draw(t, "sites"))
		want, err := CompileAll(revisionOf(1, inv))
		if err != nil {
			t.Fatal(err)
		}
		checkNetwork(t, want)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		v := reflect.ValueOf(&inv).Elem()
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.Slice {
				r.Shuffle(f.Len(), reflect.Swapper(f.Interface()))
			}
		}
		got, err := CompileAll(revisionOf(1, inv))
		if err != nil {
			t.Fatal(err)
		}
		for id, w := range want.Devices {
			if got.Devices[id].Hash != w.Hash {
				t.Fatalf("%s differs after shuffling:\n%s", id, edge.Diff(w.Config, got.Devices[id].Config))
			}
			one, err := Compile(revisionOf(1, inv), id)
			if err != nil || one.Hash() != w.Hash {
				t.Fatalf("%s alone differs: %v", id, err)
			}
		}
	})
}

func TestCompileFaults(t *testing.T) {
	base := town(2)
	ward := wardOf(t, base)
	for name, spoil := range map[string]func(*inventory.Inventory){
		"no addresses":    func(i *inventory.Inventory) { i.Allocations = nil },
		"hub gone":        func(i *inventory.Inventory) { i.Devices = slices.DeleteFunc(i.Devices, isHub) },
		"MTU too small":   func(i *inventory.Inventory) { setMTU(i, 1300) },
		"hub not dialled": func(i *inventory.Inventory) { clearAddresses(i) },
	} {
		t.Run(name, func(t *testing.T) {
			inv := base.Normalize()
			spoil(&inv)
			if _, err := CompileAll(revisionOf(1, inv)); !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("CompileAll() = %v, want ErrInvalid", err)
			}
		})
	}
	t.Run("not in service", func(t *testing.T) {
		inv := base.Normalize()
		for i := range inv.Devices {
			if inv.Devices[i].ID == ward {
				inv.Devices[i].Intended = inventory.Planned
			}
		}
		if _, err := Compile(revisionOf(1, inv), ward); !errors.Is(err, inventory.ErrNotFound) {
			t.Errorf("Compile() = %v, want ErrNotFound", err)
		}
	})
}

func isHub(d inventory.Device) bool { return d.Role == inventory.RoleHub }

func setMTU(inv *inventory.Inventory, mtu int) {
	for i := range inv.Circuits {
		inv.Circuits[i].MTU = mtu
	}
}

func clearAddresses(inv *inventory.Inventory) {
	for i := range inv.Circuits {
		inv.Circuits[i].Address = netip.Prefix{}
	}
}
