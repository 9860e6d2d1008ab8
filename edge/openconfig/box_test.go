package openconfig

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/edgetest"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/inventory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kinds of simulated device. Between them they differ in every quirk.
var zoo = map[string]habits{
	"by the book":                        {commit: true, names: "modules", serial: "SN-1"},
	"no Commit Confirmed":                {names: "modules"},
	"refuses extensions":                 {more: true, refusesExtensions: true},
	"no Get":                             {noGet: true, commit: true},
	"no Capabilities":                    {noCapabilities: true, commit: true},
	"neither":                            {noGet: true, noCapabilities: true, serial: "SN-1"},
	"JSON_IETF only":                     {encoding: "JSON_IETF", commit: true},
	"JSON only, bare names":              {encoding: "JSON", names: "bare"},
	"JSON only, not told":                {more: true, encoding: "JSON", names: "bare", noCapabilities: true},
	"scalar leaves":                      {form: "leaves", commit: true, serial: "SN-1"},
	"scalar leaves, no Get":              {more: true, form: "leaves", noGet: true, noNotFound: true},
	"blobs and leaves":                   {form: "mixed"},
	"blobs that repeat a name":           {more: true, form: "wrapped", commit: true, serial: "SN-1"},
	"empty origin":                       {emptyOrigin: true, commit: true},
	"empty origin, no Get":               {more: true, emptyOrigin: true, noGet: true, noCapabilities: true, encoding: "JSON", names: "bare"},
	"target in the prefix":               {target: "dc-leaf-1", noNotFound: true},
	"interfaces and BGP alone, told":     {lacks: []string{"acl", "bfd", "routing-policy"}, tells: true, commit: true},
	"interfaces and BGP alone, not told": {more: true, lacks: []string{"acl", "bfd", "routing-policy"}, noCapabilities: true, form: "leaves"},
	"Get without a type":                 {more: true, anyType: true, form: "mixed", commit: true},
	"says nothing of no data":            {more: true, noNotFound: true, commit: true},
}

// rig is a driver's Box on a simulated device.
type rig struct {
	*device
	box foreign.Box
}

func open(t testing.TB, h habits) *rig {
	t.Helper()
	d := newDevice(t, h)
	box, err := d.open(t, Config{Serial: h.serial, Timeout: 5 * time.Second})
	must(t, err)
	return &rig{d, box}
}

func (d *device) open(t testing.TB, cfg Config) (foreign.Box, error) {
	t.Helper()
	addr, creds := d.serve(t)
	cfg.Quirks.Target = d.target
	conn, err := Dial(addr, creds, nil, cfg.Quirks)
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	return Open(t.Context(), conn, cfg)
}

// write puts want on the device in place of what Read(have) gives.
func (r *rig) write(t testing.TB, have, want edge.Config) {
	t.Helper()
	got, err := r.box.Read(t.Context(), have)
	must(t, err)
	must(t, r.box.Write(t.Context(), got, want))
	r.holds(t, want)
}

func (r *rig) holds(t testing.TB, want edge.Config) {
	t.Helper()
	got, err := r.box.Read(t.Context(), want)
	must(t, err)
	if change := edge.Diff(got, want); !change.Empty() {
		t.Fatalf("read back:\n%s\n%s", change, r.text())
	}
}

// pruned is a configuration without empty containers, to compare.
func pruned(t testing.TB, text string) string {
	t.Helper()
	v, err := parse([]byte(text))
	must(t, err)
	b, err := json.MarshalIndent(prune(v), "", " ")
	must(t, err)
	return string(b)
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if v[name] = prune(inner); v[name] == nil {
				delete(v, name)
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
		if len(v) == 0 {
			return nil
		}
	}
	return v
}

// full is a config with something of every part that the models hold.
func full() edge.Config {
	pfx, addr := netip.MustParsePrefix, netip.MustParseAddr
	return edge.Config{
		Device: edgetest.Device, Site: "s-1", Role: inventory.RoleHub, Loopback: addr("172.16.0.7"),
		Circuits: []edge.Circuit{
			{Name: "c-1-a", Kind: inventory.Metronet, UpBPS: inventory.Mbps, MTU: 1600, Port: "eth1", Addressing: inventory.Static, Address: pfx("203.0.113.2/30"), Gateway: addr("203.0.113.1")},
			{Name: "c-1-b", Kind: inventory.LTE, MTU: 1500},
		},
		Segments: []edge.Segment{
			{Kind: inventory.Staff, V4: pfx("10.64.16.0/23"), V6: pfx("fd00:64:1::/64"), Port: "eth3.20", DNS: []netip.Addr{addr("10.64.0.5")}},
			{Kind: inventory.Public, V4: pfx("10.64.18.0/23"), V6: pfx("fd00:64:1:1::/64"), Port: "eth2"},
			{Kind: inventory.IoT, V4: pfx("10.64.20.0/24")},
		},
		BGP: edge.BGP{
			ASN: 4200000007, RouterID: addr("172.16.0.7"), Networks: []netip.Prefix{pfx("10.64.16.0/20"), pfx("fd00:64:1::/48")},
			Neighbours: []edge.Neighbour{
				{Tunnel: "c-1-a--hub-1", Addr: addr("203.0.113.1"), ASN: 4200000001, Preference: 200, BFDMinMS: 300, BFDMult: 3},
				{Tunnel: "c-1-b--hub-1", Addr: addr("fd00:ffff::1"), ASN: 4200000001, Preference: 100},
			},
		},
		Rules: []edge.Rule{
			{Permit: "p-mail", From: inventory.Staff, Src: []netip.Prefix{pfx("10.64.16.0/23"), pfx("fd00:64:1::/64")}, Dst: []netip.Prefix{pfx("10.64.0.0/28"), pfx("fd00:64::/64")}, Ports: []inventory.PortRange{{Proto: inventory.TCP, From: 993, To: 993}, {Proto: inventory.UDP, From: 4000, To: 4010}}},
			{Permit: "p-ping", Src: []netip.Prefix{pfx("10.64.0.0/10"), pfx("fd00::/16")}, Dst: []netip.Prefix{pfx("10.64.16.0/20"), pfx("fd00:64:1::/48")}, Ports: []inventory.PortRange{{Proto: inventory.ICMP}}},
			{Permit: "p-print", From: inventory.Public, Src: []netip.Prefix{pfx("10.64.18.0/23")}, Dst: []netip.Prefix{pfx("10.64.16.9/32")}, Ports: []inventory.PortRange{{Proto: inventory.TCP, From: 9100, To: 9100}}},
		},
	}
}

// each runs a test on every kind of device, or without those that have more of
// the same.
func each(t *testing.T, more bool, run func(*testing.T, habits)) {
	for name, h := range zoo {
		if h.more && !more {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, h)
		})
	}
}

// The controller's contract, through the core for foreign devices: on each
// kind of device in fake time, over TLS on a network in memory.
func TestContract(t *testing.T) {
	each(t, false, func(t *testing.T, h habits) {
		for _, c := range edgetest.Cases() {
			t.Run(c.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c.Run(t, func(t *testing.T, keys map[string]crypto.PublicKey) controller.Driver {
						d, ln := newDevice(t, h), bufconn.Listen(1<<20)
						conn, err := grpc.NewClient("passthrough:///device",
							grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }),
							grpc.WithTransportCredentials(credentials.NewTLS(d.serveOn(t, ln))))
						must(t, err)
						t.Cleanup(func() { must(t, conn.Close()) })
						box, err := Open(t.Context(), conn, Config{Serial: h.serial, Quirks: Quirks{Target: h.target}})
						must(t, err)
						return drive(t, h, box, keys)
					})
				})
			})
		}
	})
}

// The same in real time over TCP, for a device that returns by itself and one
// that does not.
func TestContractOverTCP(t *testing.T) {
	for _, name := range []string{"by the book", "neither"} {
		t.Run(name, func(t *testing.T) {
			edgetest.Run(t, func(t *testing.T, keys map[string]crypto.PublicKey) controller.Driver {
				d := newDevice(t, zoo[name])
				addr, creds := d.serve(t)
				conn, err := Dial(addr, creds, nil, Quirks{})
				must(t, err)
				t.Cleanup(func() { must(t, conn.Close()) })
				box, err := OpenLater(conn, Config{Serial: d.serial})
				must(t, err)
				_, err = box.Read(t.Context(), edge.Config{}) // opens it
				must(t, err)
				return drive(t, zoo[name], box, keys)
			})
		})
	}
}

func drive(t *testing.T, h habits, box foreign.Box, keys map[string]crypto.PublicKey) controller.Driver {
	t.Helper()
	d, err := foreign.New(t.Context(), foreign.Deps{
		Device: edgetest.Device, Keys: keys, Box: box, Journal: &notes{}, Log: slog.New(slog.DiscardHandler),
	}, foreign.Config{})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	if rules := slices.Contains(d.Holds(), edge.KindRule); rules == slices.Contains(h.lacks, "acl") {
		t.Fatalf("holds rules: %t", rules)
	}
	if d.Emulated() == h.commit {
		t.Fatalf("emulated: %t, the device has Commit Confirmed: %t", d.Emulated(), h.commit)
	}
	return d
}

// notes is a journal for devices that outlive their driver in no test here.
type notes struct{ foreign.Entry }

func (n *notes) Load(context.Context) (foreign.Entry, error)   { return n.Entry, nil }
func (n *notes) Save(_ context.Context, e foreign.Entry) error { n.Entry = e; return nil }

// Everything is written, read back the same, changed, and taken away without a
// trace; what is not ours never changes.
func TestLife(t *testing.T) {
	each(t, true, func(t *testing.T, h habits) {
		r := open(t, h)
		before := pruned(t, r.text())
		none, c := edge.Config{Device: edgetest.Device}, full()
		c.Circuits[0].Port = "eth3" // eth1 has an MTU that is not ours
		c.Segments[0].Port = "eth1.20"
		r.holds(t, none)
		r.write(t, none, c)
		sets := r.sets
		r.write(t, c, c)
		if r.sets != sets {
			t.Errorf("an unchanged device got %d Sets", r.sets-sets)
		}
		states, err := r.box.Tunnels(t.Context(), c)
		must(t, err)
		bfd := !slices.Contains(h.lacks, "bfd")
		want := []edge.TunnelState{{Name: "c-1-a--hub-1", Up: true, BGP: true, BFD: bfd}, {Name: "c-1-b--hub-1", Up: true, BGP: true, BFD: bfd}}
		if !slices.Equal(states, want) {
			t.Errorf("tunnels %v, want %v", states, want)
		}
		d := c
		d.Loopback = netip.MustParseAddr("172.16.0.8")
		d.Segments = slices.Clone(c.Segments[:2])
		d.Segments[0].Port = "eth1.30"
		d.BGP.Networks, d.BGP.Neighbours = c.BGP.Networks[:1], c.BGP.Neighbours[:1]
		d.Rules = c.Rules[1:]
		r.write(t, c, d)
		r.write(t, d, none)
		if after := pruned(t, r.text()); after != before {
			t.Errorf("left behind:\n%s\nwas\n%s", after, before)
		}
	})
}

func TestOpen(t *testing.T) {
	for name, h := range zoo {
		t.Run(name, func(t *testing.T) {
			r := open(t, h)
			s := fmt.Sprint(r.box)
			for what, want := range map[string]bool{
				"Subscribe ONCE": h.noGet, "Commit Confirmed": h.commit, "commit emulated": !h.commit, `origin ""`: h.emptyOrigin,
				"Set in JSON,": h.encoding == "JSON", ", without acl, bfd, routing-policy": len(h.lacks) > 0,
			} {
				if strings.Contains(s, what) != want {
					t.Errorf("%s; want %q in it: %t", s, what, want)
				}
			}
		})
	}
}
