package controller

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/inventory"
)

// A change that both ends of every tunnel must make together cuts sites off
// between the waves, and the plan says which.
func TestTheStatesBetweenWavesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(6)
		w := newWorld(t, inv)
		l := w.start(Config{})
		defer l.end()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Minute, RolloutDone)
		calm := inv
		calm.Sites = append([]inventory.Site{}, inv.Sites...)
		for i := range calm.Sites {
			if calm.Sites[i].Kind != inventory.Hub {
				calm.Sites[i].BFDIntervalMS = 700
			}
		}
		w.revise(2, calm)
		p, err := l.Plan(t.Context(), 2)
		if err != nil || len(p.Interims) != 0 || !p.Proof.Holds {
			t.Fatalf("a calm change: %+v, %v, %v", p.Interims, p.Proof.Findings(), err)
		}
		// Loopbacks give the AS numbers: both ends of every session change.
		moved := inv
		moved.Allocations = append([]inventory.Allocation{}, inv.Allocations...)
		var wards []int
		for i, a := range moved.Allocations {
			if id, ok := strings.CutPrefix(a.Owner, "device/"); ok && id != string(hubOf(t, inv)) {
				wards = append(wards, i)
			}
		}
		for k := 0; k+1 < len(wards); k += 2 {
			a, b := wards[k], wards[k+1]
			moved.Allocations[a].Prefix, moved.Allocations[b].Prefix = moved.Allocations[b].Prefix, moved.Allocations[a].Prefix
		}
		w.revise(3, moved)
		if p, err = l.Plan(t.Context(), 3); err != nil || len(p.Interims) == 0 {
			t.Fatalf("a change of all AS numbers: %+v, %v", p.Interims, err)
		}
		if last := p.Interims[len(p.Interims)-1]; last.After == p.Waves[len(p.Waves)-1].Name {
			t.Errorf("sites stay cut off after the last wave: %+v", last)
		}
	})
}

func TestABoxThatCannotBeManagedIsFound(t *testing.T) {
	c, err := CompileAll(revisionOf(1, town(3)))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range c.Devices {
		whole := proofBox(want.Config)
		if found, err := proof.Control(whole); err != nil || len(found) != 0 {
			t.Fatalf("%s as it is: %v, %v", id, found, err)
		}
		for what, cut := range map[string][2]string{
			"answers":        {"\t\tct state established,related accept\n", ""},
			"BGP":            {"tcp dport 179 accept", "tcp dport 1790 accept"},
			"BFD":            {"udp dport 3784 ip ttl 255 accept", "udp dport 3785 ip ttl 255 accept"},
			"what it says":   {"type filter hook output priority filter; policy accept;", "type filter hook output priority filter; policy drop;"},
			"tunnels at hub": {"udp dport { 5182", "udp dport { 6182"},
		} {
			box := whole
			box.Render = func() (proof.Artefacts, error) {
				a, err := whole.Render()
				a.Filter = strings.Replace(a.Filter, cut[0], cut[1], 1)
				return a, err
			}
			a, err := whole.Render()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(a.Filter, cut[0]) {
				if what != "tunnels at hub" || want.Config.Role == inventory.RoleHub {
					t.Errorf("%s: no %q in its filter", id, cut[0])
				}
				continue
			}
			found, err := proof.Control(box)
			if err != nil || len(found) == 0 {
				t.Errorf("%s without %s: nothing was found, %v", id, what, err)
			}
			for _, x := range found {
				if x.Packet.Proto == 0 || x.Intent == "" {
					t.Errorf("%s without %s: %+v names no packet", id, what, x)
				}
			}
		}
	}
}
