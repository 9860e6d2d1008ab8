//go:build lab

package strongswan

import (
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/wardnet/wardnet/edge/render"
)

// childID is the unique id of a tunnel's CHILD SA.
func childID(t *testing.T, s *client, b *box, tunnel string) string {
	t.Helper()
	list, err := s.stream(t.Context(), "list-sas", "list-sa", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range b.tunnels() {
		if c, ok := newest(children(list)[key(x)]); ok && x.Name == tunnel {
			return c.id
		}
	}
	t.Fatalf("%s has no CHILD SA", tunnel)
	return ""
}

// count is how many CHILD SAs a tunnel has.
func (b *box) count(t *testing.T, tunnel string) (n int) {
	b.session(func(s *client) error {
		list, err := s.stream(t.Context(), "list-sas", "list-sa", nil)
		for _, x := range b.tunnels() {
			if x.Name == tunnel {
				n = len(children(list)[key(x)])
			}
		}
		return err
	})
	return n
}

// down fails the test if the box holds an SA for the tunnel.
func down(t *testing.T, b *box, tunnel string) {
	t.Helper()
	if id, ok := b.sas()[tunnel]; ok {
		t.Errorf("%s has SA %s; want none", tunnel, id)
	}
}

// dropped is the packets that the counters of a chain of the IPsec table saw.
func dropped(t *testing.T, b *box, chain string) (n int) {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", b.ns, "nft", "-j", "list", "chain", "inet", render.IPsecTable, chain).Output()
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		NFTables []struct {
			Rule struct {
				Expr []struct{ Counter struct{ Packets int } }
			}
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	for _, x := range list.NFTables {
		for _, e := range x.Rule.Expr {
			n += e.Counter.Packets
		}
	}
	return n
}

func (b *box) show(t *testing.T, what string) string {
	t.Helper()
	out, err := exec.Command("ip", "-n", b.ns, "-d", what, "show").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
