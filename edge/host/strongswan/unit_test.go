package strongswan

import (
	"context"
	"encoding/json"
	"os/exec"
	"testing"
	"time"

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

func TestMessage(t *testing.T) {
	m := new(message).set("a", "1").section(render.IPsecSection{
		Name:     "conn",
		Values:   []render.IPsecValue{{Key: "l", List: true, Items: []string{"x", "y"}}, {Key: "cacerts", List: true, Items: []string{"devices.pem"}}},
		Sections: []render.IPsecSection{{Name: "children", Values: []render.IPsecValue{{Key: "mode", Items: []string{"tunnel"}}}}},
	}, []string{"PEM"})
	s, err := parse(m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	c := s.sub("conn")
	if s.values["a"] != "1" || len(c.lists["l"]) != 2 || c.lists["cacerts"][0] != "PEM" || c.sub("children").values["mode"] != "tunnel" {
		t.Errorf("read back %+v", c)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(new(message).set("key", "value").list("l", "a", "b").Bytes())
	f.Add([]byte{sectionStart, 1, 'x', keyValue, 1, 'k', 0, 9, 'v'})
	f.Add([]byte{listStart, 1, 'x', listItem, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parse(b); err == nil && s == nil {
			t.Error("no error and no message")
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(Config{}); err == nil {
		t.Error("opened without a run directory")
	}
}

func TestNoCharonIsUnreachable(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := (charon{dir: t.TempDir()}).stop(ctx); err != nil {
		t.Errorf("stopping nothing: %v", err)
	}
}
