package linux

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// TestThereAndBack puts configurations in force one after the other and reads
// the whole box back, and sees that what is not ours stays.
func TestThereAndBack(t *testing.T) {
	if !hosttest.Enter(t, "out") {
		return
	}
	plug(t, hosttest.Space(""))
	foreign := []string{
		"link add other type veth peer name other2", "link set other up", "addr add 192.168.9.1/24 dev other",
		"route add 192.168.10.0/24 via 192.168.9.2", "route add 192.168.11.0/24 dev other table 77", "rule add from 192.168.9.0/24 lookup 77 priority 500",
	}
	for _, f := range foreign {
		hosttest.Run(t, "ip", strings.Fields(f)...)
	}
	hosttest.Run(t, "nft", "add", "table", "inet", "other")
	hosttest.Run(t, "sysctl", "-q", "net.ipv4.ip_forward=1")

	h := open(t, t.TempDir())
	equal(t, h, edge.Config{})
	if forwards(t) {
		t.Error("a box without a configuration forwards")
	}
	t.Logf("first apply in %s", apply(t, h, ward()))
	equal(t, h, ward())
	differs(t, h, edge.Config{})
	if !forwards(t) {
		t.Error("the box does not forward")
	}
	t.Logf("nothing to change: %s", apply(t, h, ward()))
	t.Logf("another in %s", apply(t, h, otherWard()))
	equal(t, h, otherWard())
	differs(t, h, ward())
	t.Logf("and back in %s", apply(t, h, ward()))
	equal(t, h, ward())
	if err := h.Apply(t.Context(), edge.Config{}, edge.Credentials{}); err != nil {
		t.Fatal(err)
	}
	equal(t, h, edge.Config{})
	if forwards(t) {
		t.Error("the emptied box forwards")
	}

	for what, want := range map[string]string{
		"addr show dev other": "192.168.9.1/24", "route show": "192.168.10.0/24 via", "route show table 77": "192.168.11.0/24", "rule show": "from 192.168.9.0/24",
	} {
		if out := hosttest.Run(t, "ip", strings.Fields(what)...); !strings.Contains(out, want) {
			t.Errorf("ip %s lost %s:\n%s", what, want, out)
		}
	}
	hosttest.Run(t, "nft", "list", "table", "inet", "other")
	for what, gone := range map[string]string{"addr show": "10.64.", "rule show": "203.0.113.2", "route show table all": "blackhole 10."} {
		if out := hosttest.Run(t, "ip", strings.Fields(what)...); strings.Contains(out, gone) {
			t.Errorf("ip %s still has %s:\n%s", what, gone, out)
		}
	}
}

func forwards(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b)) == "1"
}

// TestRefused: whatever refuses the new configuration, the old one runs.
func TestRefused(t *testing.T) {
	if !hosttest.Enter(t, "out") {
		return
	}
	plug(t, hosttest.Space(""))
	h := open(t, t.TempDir())
	apply(t, h, ward())
	good := h.render
	spoil := func(f func(*render.Box)) {
		h.render = func(in render.Input) (render.Box, error) {
			box, err := good(in)
			if in.Config.Hash() == otherWard().Hash() {
				f(&box)
			}
			return box, err
		}
	}
	refused := func(name, want string, sentinel error) {
		t.Helper()
		err := h.Apply(t.Context(), otherWard(), keys())
		if err == nil || !strings.Contains(err.Error(), want) || sentinel != nil && !errors.Is(err, sentinel) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		h.render = good
		equal(t, h, ward())
	}
	spoil(func(b *render.Box) { b.NFT = strings.Replace(b.NFT, "policy drop", "policy perhaps", 1) })
	if err := h.Validate(t.Context(), otherWard()); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("Validate of a bad filter: %v", err)
	}
	refused("bad filter", "perhaps", inventory.ErrInvalid)
	spoil(func(b *render.Box) { b.FRR = strings.Replace(b.FRR, "timers bgp 10 30", "timers bgp 10 30 perhaps", 1) })
	if err := h.Validate(t.Context(), otherWard()); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("Validate of a bad routing text: %v", err)
	}
	refused("bad routing", "perhaps", inventory.ErrInvalid)
	spoil(func(b *render.Box) { b.Links[0].MTU = 40 })
	refused("kernel refuses", "mtu 40", nil)
	spoil(func(b *render.Box) { b.Routes[0].Dev, b.Routes[0].Via = "wan0", addr("2001:db8::1") })
	refused("kernel refuses a route", "routes:", nil)
	// vtysh takes it, the daemon does not.
	spoil(func(b *render.Box) {
		b.FRR = strings.Replace(b.FRR, " neighbor 172.16.8.0 bfd\n", " neighbor 172.16.8.0 bfd\n neighbor 172.16.8.0 ttl-security hops 2\n neighbor 172.16.8.0 ebgp-multihop 3\n", 1)
	})
	refused("daemon refuses", "routing:", nil)

	c := otherWard()
	c.Segments[0].Port = "lan9"
	c.Circuits[0].Port = "wan9"
	err := h.Validate(t.Context(), c)
	if !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "lan9") || !strings.Contains(err.Error(), "wan9") {
		t.Errorf("missing ports: %v", err)
	}
	c = otherWard()
	c.Circuits[0].Addressing = inventory.PPPoE
	if err := h.Validate(t.Context(), c); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "pppd") {
		t.Errorf("PPPoE without a daemon: %v", err)
	}
	equal(t, h, ward())
}

// TestRoutingDown: FRR cannot be started, the old configuration stays.
func TestRoutingDown(t *testing.T) {
	if !hosttest.Enter(t, "out") {
		return
	}
	plug(t, hosttest.Space(""))
	h := open(t, t.TempDir())
	apply(t, h, ward())
	if err := h.routing.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	// No daemon can make its sockets where a file lies in the way.
	sockets := "/run/frr/" + hosttest.Space("")
	if err := os.RemoveAll(sockets); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sockets, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := h.Apply(t.Context(), otherWard(), keys())
	if err == nil || !strings.Contains(err.Error(), "FRR") || !strings.Contains(err.Error(), "old configuration is not back yet") {
		t.Errorf("Apply without FRR: %v", err)
	}
	diff, err := h.Equal(t.Context(), ward(), keys())
	if err != nil || len(diff) != 1 || !strings.Contains(diff[0], "FRR is down") {
		t.Errorf("all but routing is the old one: %q, %v", diff, err)
	}
	if err := os.Remove(sockets); err != nil {
		t.Fatal(err)
	}
	run(t, h)
	hosttest.Eventually(t, 10e9, "FRR is back with the old configuration", func() bool {
		diff, err := h.Equal(t.Context(), ward(), keys())
		return err == nil && len(diff) == 0
	})
}
