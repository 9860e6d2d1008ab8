package openconfig

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/gnmibox"
)

// A port that becomes ours keeps the addresses that it had.
func TestAddressesOfOthers(t *testing.T) {
	t.Parallel()
	for what, k := range map[string]edge.Circuit{
		"static": {Name: "c-1", MTU: 1500, Port: "eth3", Addressing: inventory.Static, Address: netip.MustParsePrefix("203.0.113.2/30")},
		"DHCP":   {Name: "c-1", MTU: 1500, Port: "eth3", Addressing: inventory.DHCP},
	} {
		t.Run(what, func(t *testing.T) {
			r := open(t, zoo["by the book"])
			r.edit(t, func(s *gnmibox.Store) {
				must(t, s.Set("interfaces/interface[name=eth3]/subinterfaces/subinterface[index=0]/ipv4/addresses/address[ip=198.18.0.1]/config", map[string]any{"ip": "198.18.0.1", "prefix-length": json.Number("24")}))
			})
			before := pruned(t, r.Text())
			none, c := edge.Config{Device: "e-1"}, edge.Config{Device: "e-1", Circuits: []edge.Circuit{k}}
			r.write(t, none, c)
			if k.Address.IsValid() { // ours is changed to another's
				r.edit(t, func(s *gnmibox.Store) {
					must(t, s.Delete("interfaces/interface[name=eth3]/subinterfaces/subinterface[index=0]/ipv4/addresses/address[ip=203.0.113.2]"))
				})
				got, err := r.box.Read(t.Context(), c)
				must(t, err)
				if change := edge.Diff(got, c).String(); !strings.Contains(change, "address none → 203.0.113.2/30") {
					t.Errorf("the difference is %q", change)
				}
				must(t, r.box.Write(t.Context(), got, c))
				r.holds(t, c)
			}
			r.write(t, c, none)
			if after := pruned(t, r.Text()); after != before {
				t.Errorf("left behind\n%s\nwas\n%s", after, before)
			}
		})
	}
}
