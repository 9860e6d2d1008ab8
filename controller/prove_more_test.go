package controller

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/controller/proof/nft"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// alter makes one change that a person might make at one place of the town.
func alter(t *rapid.T, inv *inventory.Inventory) {
	sites := []int{}
	for i, s := range inv.Sites {
		if s.Kind != inventory.Hub {
			sites = append(sites, i)
		}
	}
	s := &inv.Sites[rapid.SampledFrom(sites).Draw(t, "site")]
	switch rapid.IntRange(0, 3).Draw(t, "change") {
	case 0: // a segment goes out of use
		k := rapid.IntRange(0, len(s.Segments)-1).Draw(t, "segment")
		s.Segments = slices.Clone(s.Segments)
		if s.Segments[k].Unused == "" && (s.Segments[k].Kind != inventory.Staff || !s.Legacy.IsValid()) { // it is translated to
			s.Segments[k].Unused = "not needed here"
		}
	case 1: // an old prefix is kept, or renumbered at last
		staff := slices.ContainsFunc(s.Segments, func(g inventory.Segment) bool { return g.Kind == inventory.Staff && g.Unused == "" })
		if s.Legacy.IsValid() || !staff {
			s.Legacy = netip.Prefix{}
		} else {
			s.Legacy = netip.MustParsePrefix("192.168.7.0/24")
		}
	case 2: // a permit's ports
		p := &inv.Permits[rapid.IntRange(0, len(inv.Permits)-1).Draw(t, "permit")]
		if p.ToSeg != "" {
			p.Ports = append(slices.Clone(p.Ports), inventory.PortRange{Proto: inventory.TCP, From: 7777, To: 7778})
		}
	case 3: // the hubs' order
		s.Hubs = slices.Clone(s.Hubs)
		slices.Reverse(s.Hubs)
	}
}

// What is remembered of the boxes changes nothing in what is proven: after any
// change the verdict is that of a proof made anew.
func TestIncrementalProofIsTheFullOne(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue { // each takes a second
		if err := checks.Value.Set("12"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = checks.Value.Set(checks.DefValue) }()
	}
	rapid.Check(t, func(t *rapid.T) {
		var warm proof.Prover
		inv := linux(town(3))
		var before proof.Side
		for n := range 3 {
			if n > 0 {
				alter(t, &inv)
				if rapid.IntRange(0, 3).Draw(t, "forgets") == 0 {
					warm.Forget()
				}
			}
			c, err := CompileAll(revisionOf(intent.Number(n+1), inv))
			if err != nil {
				t.Fatalf("a change that a person may make gives a town that does not compile: %v", err)
			}
			side := proof.Side{Inventory: *c.Content, Boxes: proofBoxes(c.Devices)}
			var cold proof.Prover
			got, err1 := warm.Prove(side)
			want, err2 := cold.Prove(side)
			got.Took, want.Took = 0, 0
			if fmt.Sprint(err1) != fmt.Sprint(err2) || !reflect.DeepEqual(got, want) {
				t.Fatalf("remembered: %+v, %v\nanew: %+v, %v", got, err1, want, err2)
			}
			if n > 0 {
				d1, err1 := warm.Compare(before, side)
				var cold proof.Prover
				d2, err2 := cold.Compare(before, side)
				if fmt.Sprint(err1) != fmt.Sprint(err2) || !reflect.DeepEqual(d1, d2) {
					t.Fatalf("remembered: %+v, %v\nanew: %+v, %v", d1, err1, d2, err2)
				}
			}
			before = side
		}
	})
}

// towns is how many damaged towns a twin is asked about.
var towns = flag.Int("towns", 24, "damaged towns that single packets are sent through")

// A dumb twin plays single packets through the literal filters of small towns
// whose texts have been damaged at random. Where the proof holds, each permitted
// packet passes and each other one is stopped.
func TestProofAgreesWithPackets(t *testing.T) {
	c := mustCompile(t, 1, linux(town(2)))
	rnd := rand.New(rand.NewPCG(1, 2))
	held, broken := 0, 0
	for range *towns {
		boxes := proofBoxes(c.Devices)
		victim := rnd.IntN(len(boxes))
		damage := rnd.IntN(3)
		seed := rnd.Uint64()
		change(&boxes[victim], func(text string) string { return damaged(text, damage, seed) })
		r, err := fresh(c, boxes)
		if err != nil {
			continue // not understood: nothing is proven
		}
		if !r.Holds {
			broken++
			continue // each counterexample was played already
		}
		held++
		tables := map[inventory.DeviceID]*nft.Table{}
		for _, b := range boxes {
			a, err := b.Render()
			if err != nil {
				t.Fatal(err)
			}
			if tables[b.Device], err = nft.Read(a.Filter); err != nil {
				t.Fatal(err)
			}
		}
		for range 300 {
			if why := contradiction(t, c, boxes, tables, rnd); why != "" {
				t.Fatalf("the proof holds, and %s", why)
			}
		}
	}
	if held < *towns/10 || broken < *towns/10 {
		t.Errorf("%d damaged towns held and %d did not; want some of each", held, broken)
	}
}

// damaged drops a line of the filter, swaps two, or turns a verdict round.
func damaged(text string, how int, seed uint64) string {
	rnd := rand.New(rand.NewPCG(seed, 3))
	lines := strings.Split(text, "\n")
	var rules []int
	for i, l := range lines {
		if strings.HasPrefix(l, "\t\t") && (strings.HasSuffix(l, "accept") || strings.Contains(l, " accept ") || strings.Contains(l, "drop")) {
			rules = append(rules, i)
		}
	}
	i := rules[rnd.IntN(len(rules))]
	switch how {
	case 0:
		lines = slices.Delete(lines, i, i+1)
	case 1:
		j := rules[rnd.IntN(len(rules))]
		lines[i], lines[j] = lines[j], lines[i]
	default:
		if strings.Contains(lines[i], "drop") {
			lines[i] = strings.Replace(lines[i], "drop", "accept", 1)
		} else {
			lines[i] = strings.Replace(lines[i], "accept", "drop", 1)
		}
	}
	return strings.Join(lines, "\n")
}

// contradiction sends one random packet from one site to another by each hub,
// and says what it does that the inventory does not say; empty: nothing.
func contradiction(t *testing.T, c *Compiled, boxes []proof.Box, tables map[inventory.DeviceID]*nft.Table, rnd *rand.Rand) string {
	t.Helper()
	var edges, hubs []int
	for i, b := range boxes {
		if b.Hub {
			hubs = append(hubs, i)
		} else {
			edges = append(edges, i)
		}
	}
	from, to := boxes[edges[rnd.IntN(len(edges))]], boxes[edges[rnd.IntN(len(edges))]]
	if from.Device == to.Device {
		return ""
	}
	src, kind := somewhere(t, c, from.Site, rnd)
	dst, there := somewhere(t, c, to.Site, rnd)
	if src.Is6() != dst.Is6() {
		return ""
	}
	ports := []uint16{22, 53, 80, 443, 5060, 16384, 554, 7, uint16(rnd.IntN(65536))}
	p := nft.Packet{
		Src: src, Dst: dst, Proto: []uint8{nft.TCP, nft.UDP}[rnd.IntN(2)], SPort: uint16(32768 + rnd.IntN(28232)), DPort: ports[rnd.IntN(len(ports))], State: nft.New, TTL: 64,
	}
	want := slices.ContainsFunc(c.Content.Permits, func(x inventory.Permit) bool {
		return x.ToSeg == there && slices.Contains(x.From, kind) && slices.ContainsFunc(x.Ports, func(r inventory.PortRange) bool {
			return (r.Proto == inventory.TCP) == (p.Proto == nft.TCP) && r.Proto != inventory.ICMP && r.From <= p.DPort && p.DPort <= r.To
		})
	})
	for _, h := range hubs {
		got := true
		q := p
		for _, hop := range []struct {
			box     proof.Box
			in, out string
		}{{from, from.Segments[kind], from.Tunnels[0]}, {boxes[h], boxes[h].Tunnels[0], boxes[h].Tunnels[0]}, {to, to.Tunnels[0], to.Segments[there]}} {
			q.In, q.Out = hop.in, ""
			for _, hook := range []nft.Hook{nft.Prerouting, nft.Forward, nft.Postrouting} {
				if hook == nft.Forward {
					q.Out = hop.out
				}
				v := tables[hop.box.Device].At(hook, q)
				if got = got && v.Pass; !got {
					break
				}
				q.Src, q.Dst = v.Src, v.Dst
			}
		}
		if got != want {
			return fmt.Sprintf("%+v from %s of %s to %s of %s by %s: passes %v, permitted %v", p, kind, from.Site, there, to.Site, boxes[h].Device, got, want)
		}
	}
	return ""
}

// somewhere is a random address in a segment of a site.
func somewhere(t *testing.T, c *Compiled, site inventory.SiteID, rnd *rand.Rand) (netip.Addr, inventory.SegmentKind) {
	t.Helper()
	index := c.Content.Index()
	blocks, err := index.SegmentBlocks(site)
	if err != nil {
		t.Fatal(err)
	}
	b := blocks[rnd.IntN(len(blocks))]
	p := b.V4
	if rnd.IntN(2) == 0 && b.V6.IsValid() {
		p = b.V6
	}
	a := p.Masked().Addr()
	for range rnd.IntN(200) {
		a = a.Next()
	}
	return a, b.Kind
}
