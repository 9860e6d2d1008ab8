package controller

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/inventory"
)

// The city lets nothing pass that its permits do not name; with a legacy prefix
// behind translation neither.
func TestTownIsProven(t *testing.T) {
	inv := linux(town(9))
	for i := range inv.Sites {
		if inv.Sites[i].Kind != inventory.Hub && i%3 == 0 {
			inv.Sites[i].Legacy = netip.MustParsePrefix("192.168.1.0/24")
		}
	}
	for name, inv := range map[string]inventory.Inventory{"ports and legacy": inv, "no ports": town(3)} {
		r, err := Prove(mustCompile(t, 1, inv))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Logf("%s: %d intents, %d pairs of sites, %d looked at, %s", name, r.Intents, r.Pairs, r.Shared, r.Took)
		for _, x := range r.Counterexamples {
			t.Errorf("%s: %s", name, x)
			for _, s := range x.Path {
				t.Logf("  %s line %d: %s", s.Device, s.Line, s.Text)
			}
		}
		for _, x := range r.Unreached {
			t.Errorf("%s: %s", name, x)
			for _, s := range x.Path {
				t.Logf("  %s %s line %d: %s", s.Device, s.Part, s.Line, s.Text)
			}
		}
		for _, x := range r.Risks {
			if x.Failure == "" || x.From == "" || len(x.Sites) == 0 {
				t.Errorf("%s: %+v", name, x)
			}
		}
		if !r.Holds || r.Pairs == 0 || r.Shared == 0 || r.Reached == 0 || r.States < 4 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Each fault that is planted into a text is found, and shown by a packet that
// passes the literal filters.
func TestProofFindsPlantedFaults(t *testing.T) {
	c := mustCompile(t, 1, linux(town(4)))
	for name, fault := range map[string]struct {
		where func(proof.Box) bool
		from  string // in the text
		to    string
		what  string // of the counterexample
	}{
		"an open segment": {
			isEdgeBox, `iifname "lan.public" jump from_public`, `iifname "lan.public" accept`, "segment public must not open",
		},
		"no check of sources": {
			isEdgeBox, "counter drop comment \"source not of staff\"\n", "accept\n", "a forged source in segment staff must not pass",
		},
		"a hub and an edge together": {
			func(proof.Box) bool { return true }, "\tchain from_overlay {\n", "\tchain from_overlay {\n\t\taccept\n", "must not open",
		},
		"a server that opens flows from the port it answers by": {
			func(b proof.Box) bool { return b.Hub }, "\t\tiifname @remote ip", "\t\tiifname @inside ip", "segment servers must not open",
		},
		"overlay addresses in clear": {
			isEdgeBox, "\tchain from_staff {\n", "\tchain from_staff {\n\t\toifname @circuits accept\n", "to the city's own addresses",
		},
		"a return too early": {
			isEdgeBox, `iifname "lan.iot" jump from_iot`, `iifname "lan.iot" udp sport 9 accept`, "segment iot must not open",
		},
	} {
		boxes := proofBoxes(c.Devices)
		for i := range boxes {
			if fault.where(boxes[i]) {
				change(&boxes[i], func(text string) string {
					text = strings.ReplaceAll(text, fault.from, fault.to)
					if name == "no check of sources" { // the rules check them once more
						text = strings.Replace(text, "\tchain from_staff {\n", "\tchain from_staff {\n\t\toifname @segments tcp dport 9 accept\n", 1)
					}
					return text
				})
			}
		}
		r, err := fresh(c, boxes)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found := false
		for _, x := range r.Counterexamples {
			found = found || strings.Contains(x.Intent, fault.what) && len(x.Path) > 0
		}
		if r.Holds || !found {
			t.Errorf("%s: holds %v, %v", name, r.Holds, r.Counterexamples)
		}
	}
}

// What is permitted and does not pass is found: by the first packet, by its
// answer, by routes, in the state that shows it.
func TestProofFindsWhatIsCutOff(t *testing.T) {
	c := mustCompile(t, 1, linux(town(4)))
	hub2 := func(b proof.Box) bool { return b.Device == "d-hub-2" }
	one := func(b proof.Box) bool { return b.Device == "d-b-01" }
	for name, fault := range map[string]struct {
		where func(proof.Box) bool
		plant func(a *proof.Artefacts)
		links func(l proof.Link) bool // that go away
		what  string                  // of the counterexample
		step  string                  // of its path
	}{
		"a shared template that drops what staff asks the data centre": {
			isEdgeBox, inFilter("\tchain from_staff {\n", "\tchain from_staff {\n\t\tip daddr 10.64.10.0/24 drop\n"), nil, "segment staff must be able to open", "10.64.10.0/24 drop",
		},
		"a hub that lets no answers back": {
			isHubBox, inFilter("jump back_to_overlay", "drop"), nil, "must come back to", "drop",
		},
		"an edge that knows no state": {
			isEdgeBox, inFilter("\t\tct state established,related accept\n", ""), nil, "must come back to", "",
		},
		"a route that the second hub does not take": {
			hub2, inRouting("seq 5 permit 10.64.32.0/20\n", "seq 5 deny 10.64.32.0/20\n"), nil, "when hub hub-1 is down", "10.64.32.0/20 of d-b-01 is not taken",
		},
		"an edge that announces nothing": {
			one, inRouting(" match ip address prefix-list wn-own\n", " match ip address prefix-list wn-overlay\n"), nil, "site b-01 must reach", "is not announced to d-hub-1",
		},
		"an edge that learns nothing": {
			one, inRouting("permit 10.64.0.0/10 le 32", "permit 10.64.0.0/10"), nil, "site b-01 must reach", "is not taken from d-hub-1",
		},
		"allowed addresses that lack a site's": {
			hub2, func(a *proof.Artefacts) {
				for tunnel, all := range a.Allowed {
					a.Allowed[tunnel] = slices.DeleteFunc(slices.Clone(all), func(p netip.Prefix) bool { return p.Bits() == 20 })
				}
			}, nil, "when hub hub-1 is down", "is not among the allowed addresses",
		},
		"no tunnel to the second hub": {
			one, nil, func(l proof.Link) bool { return l.Peer == "d-hub-2" }, "when hub hub-1 is down", "",
		},
	} {
		boxes := proofBoxes(c.Devices)
		for i := range boxes {
			b := &boxes[i]
			if !fault.where(*b) {
				continue
			}
			if fault.links != nil {
				b.Links = slices.DeleteFunc(slices.Clone(b.Links), fault.links)
			}
			if render := b.Render; fault.plant != nil {
				b.Render = func() (proof.Artefacts, error) {
					a, err := render()
					fault.plant(&a)
					return a, err
				}
			}
		}
		r, err := fresh(c, boxes)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found := slices.ContainsFunc(r.Unreached, func(x proof.Counterexample) bool {
			return strings.Contains(x.Intent, fault.what) && slices.ContainsFunc(x.Path, func(s proof.Step) bool { return strings.Contains(s.Text, fault.step) })
		})
		if r.Holds || !found || len(r.Counterexamples) > 0 {
			t.Errorf("%s: holds %v; passes %v; cut off %v", name, r.Holds, r.Counterexamples, r.Unreached)
		}
	}
}

// Sites with one circuit are cut off by what takes it: that is told, and is no
// fault of the revision. Each risk names who is cut off from what.
func TestProofListsAcceptedRisks(t *testing.T) {
	r, err := Prove(mustCompile(t, 1, city()))
	if err != nil || !r.Holds {
		t.Fatal(err, r.Counterexamples, r.Unreached)
	}
	seen := map[string]bool{}
	for _, x := range r.Risks {
		key := x.Failure + " " + x.From
		if x.Failure == "" || x.From == "" || len(x.Sites) == 0 || seen[key] || slices.ContainsFunc(x.Sites, func(s inventory.SiteID) bool { return strings.HasPrefix(string(s), "hub-") }) {
			t.Errorf("%+v", x)
		}
		seen[key] = true
	}
	if !seen["carrier vnpt is down everything"] {
		t.Errorf("the sites that have vnpt alone are not named: %v", r.Risks)
	}
}

// fresh proves what boxes would run, without anything remembered.
func fresh(c *Compiled, boxes []proof.Box) (proof.Result, error) {
	var p proof.Prover
	return p.Prove(proof.Side{Inventory: *c.Content, Boxes: boxes})
}

func inFilter(from, to string) func(*proof.Artefacts) {
	return func(a *proof.Artefacts) { a.Filter = strings.ReplaceAll(a.Filter, from, to) }
}

func inRouting(from, to string) func(*proof.Artefacts) {
	return func(a *proof.Artefacts) { a.Routing = strings.ReplaceAll(a.Routing, from, to) }
}

func isHubBox(b proof.Box) bool { return b.Hub }

// change plants something into the text of a box.
func change(b *proof.Box, how func(string) string) {
	render := b.Render
	b.Render = func() (proof.Artefacts, error) {
		a, err := render()
		a.Filter = how(a.Filter)
		return a, err
	}
}

func isEdgeBox(b proof.Box) bool { return !b.Hub }

// What the proof does not understand proves nothing, and says of which device.
func TestProofRefusesWhatItCannotRead(t *testing.T) {
	c := mustCompile(t, 1, linux(town(2)))
	boxes := proofBoxes(c.Devices)
	change(&boxes[0], func(text string) string { return strings.Replace(text, "counter drop", "meta skuid 0 drop", 1) })
	change(&boxes[2], func(string) string { return "" })
	_, err := fresh(c, boxes)
	if !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), string(boxes[0].Device)) || !strings.Contains(err.Error(), string(boxes[2].Device)) {
		t.Errorf("%v, want both devices named", err)
	}
	boxes = proofBoxes(c.Devices)
	boxes[1].Own = append(boxes[1].Own, boxes[0].Own[0])
	if _, err = fresh(c, boxes); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "overlaps") {
		t.Errorf("two owners of one prefix: %v", err)
	}
}

// BenchmarkProveCity is the proof of the whole sample city, rendering and
// reading included.
func BenchmarkProveCity(b *testing.B) {
	c := mustCompile(b, 1, city())
	for b.Loop() {
		if r, err := Prove(c); err != nil || !r.Holds {
			b.Fatal(err, r.Counterexamples, r.Unreached)
		}
	}
}
