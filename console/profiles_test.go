package console

import (
	"testing"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// The inventory is read and edited as it was written; sites and circuits are
// shown with what their profile gives them.
func TestProfilesAreWrittenOutInViews(t *testing.T) {
	s := newSite(t)
	s.net.mu.Lock()
	s.net.inv.Profiles = []inventory.Profile{{
		ID:        "ward-standard",
		Variables: []inventory.Variable{{Name: "staff_port", Type: inventory.TextVariable}},
		Segments:  []inventory.ProfileSegment{{Kind: inventory.Staff, Port: inventory.FromVariable[string]("staff_port")}},
		Circuits:  []inventory.ProfileCircuit{{Kind: inventory.FTTH, MTU: inventory.Given(1492)}},
	}}
	s.net.inv.Sites[0].Profile = "ward-standard"
	s.net.inv.Sites[0].Variables = map[string]inventory.VariableValue{"staff_port": "eth2"}
	s.net.mu.Unlock()
	c := s.user("aud", client.RoleAuditor)

	inv, _, err := c.Inventory(t.Context())
	if err != nil || len(inv.Profiles) != 1 || inv.Profiles[0].Segments[0].Port.Variable() != "staff_port" || inv.Profiles[0].Circuits[0].MTU.Literal() != 1492 ||
		inv.Sites[0].Variables["staff_port"] != "eth2" || len(inv.Sites[0].Segments) != 0 || inv.Circuits[0].MTU != 0 {
		t.Errorf("the inventory is not as written: %+v, %v", inv, err)
	}
	site, err := c.Site(t.Context(), "s-1")
	if err != nil || len(site.Segments) != 1 || site.Segments[0].Port != "eth2" || site.Circuits[0].MTU != 1492 || site.Profile != "ward-standard" {
		t.Errorf("the site is not written out: %+v, %v", site, err)
	}
	circuits, err := c.Circuits(t.Context())
	if err != nil || len(circuits) != 1 || circuits[0].MTU != 1492 {
		t.Errorf("circuits %+v, %v", circuits, err)
	}
}
