package agent

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

func TestPortsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.json")
	for name, tt := range map[string]struct {
		text   string
		faults int // 0: good
	}{
		"dhcp":          {`{"circuits":[{"name":"c-1","kind":"ftth","port":"eth0","mtu":1500}]}`, 0},
		"static":        {`{"circuits":[{"name":"c-1","kind":"ftth","up_bps":0,"port":"eth0","mtu":1500,"addressing":"static","address":"198.18.0.2/24","gateway":"198.18.0.1"}]}`, 0},
		"nothing":       {`{"circuits":[]}`, 1},
		"no JSON":       {`circuits`, 1},
		"unknown field": {`{"circuit":[]}`, 1},
		"all wrong":     {`{"circuits":[{"name":"c-1","port":"eth0","mtu":1500},{"name":"c-1","port":"eth0","mtu":1,"addressing":"static"}]}`, 4},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadPorts(path)
		if got := errors.Is(err, inventory.ErrInvalid); got != (tt.faults > 0) {
			t.Errorf("%s: %v", name, err)
		}
		if j, ok := errors.Unwrap(err).(interface{ Unwrap() []error }); ok && len(j.Unwrap()) != tt.faults {
			t.Errorf("%s: %v, want %d faults", name, err, tt.faults)
		}
	}
}

// The ports of a bundle outlive the bundle.
func TestBundlePortsAreKept(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	if p, err := KeptPorts(state, nil); err != nil || len(p.Circuits) != 0 {
		t.Fatalf("a new box has %+v, %v", p, err)
	}
	b := &enrol.Bundle{Ports: []enrol.Port{{
		Name: "c-1", Kind: inventory.FTTH, Port: "eth0", Addressing: inventory.Static,
		Address: netip.MustParsePrefix("198.18.0.2/24"), Gateway: netip.MustParseAddr("198.18.0.1"), MTU: 1492,
	}}}
	want := Ports{Circuits: []edge.Circuit{{
		Name: "c-1", Kind: inventory.FTTH, Port: "eth0", Addressing: inventory.Static,
		Address: netip.MustParsePrefix("198.18.0.2/24"), Gateway: netip.MustParseAddr("198.18.0.1"), MTU: 1492,
	}}}
	for _, bundle := range []*enrol.Bundle{b, nil} {
		if got, err := KeptPorts(state, bundle); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	b.Ports[0].Port = ""
	if _, err := KeptPorts(state, b); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a port without a name: %v", err)
	}
}
