package controller

import (
	"errors"
	"net/netip"
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
		if !r.Holds || r.Pairs == 0 || r.Shared == 0 {
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
		boxes, err := proofBoxes(c)
		if err != nil {
			t.Fatal(err)
		}
		for i := range boxes {
			if fault.where(boxes[i]) {
				boxes[i].Filter = strings.ReplaceAll(boxes[i].Filter, fault.from, fault.to)
				if name == "no check of sources" { // the rules check them once more
					boxes[i].Filter = strings.Replace(boxes[i].Filter, "\tchain from_staff {\n", "\tchain from_staff {\n\t\toifname @segments tcp dport 9 accept\n", 1)
				}
			}
		}
		r, err := proof.Segmentation(*c.Content, boxes)
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

func isEdgeBox(b proof.Box) bool { return !b.Hub }

// What the proof does not understand proves nothing, and says of which device.
func TestProofRefusesWhatItCannotRead(t *testing.T) {
	c := mustCompile(t, 1, linux(town(2)))
	boxes, err := proofBoxes(c)
	if err != nil {
		t.Fatal(err)
	}
	boxes[0].Filter = strings.Replace(boxes[0].Filter, "counter drop", "meta skuid 0 drop", 1)
	boxes[2].Filter = ""
	_, err = proof.Segmentation(*c.Content, boxes)
	if !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), string(boxes[0].Device)) || !strings.Contains(err.Error(), string(boxes[2].Device)) {
		t.Errorf("%v, want both devices named", err)
	}
	boxes, _ = proofBoxes(c)
	boxes[1].Own = append(boxes[1].Own, boxes[0].Own[0])
	if _, err = proof.Segmentation(*c.Content, boxes); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "overlaps") {
		t.Errorf("two owners of one prefix: %v", err)
	}
}

// BenchmarkProveCity is the proof of the whole sample city, rendering and
// reading included.
func BenchmarkProveCity(b *testing.B) {
	c := mustCompile(b, 1, city())
	for b.Loop() {
		if r, err := Prove(c); err != nil || !r.Holds {
			b.Fatal(err, r.Counterexamples)
		}
	}
}
