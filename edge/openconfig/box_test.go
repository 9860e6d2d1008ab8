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
	"github.com/wardnet/wardnet/labs/gnmibox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kinds of simulated device. Between them they differ in every quirk.
var zoo = map[string]gnmibox.Habits{
	"by the book":                        {Commit: true, Names: "modules", Serial: "SN-1"},
	"no Commit Confirmed":                {Names: "modules"},
	"refuses extensions":                 {RefusesExtensions: true},
	"no Get":                             {NoGet: true, Commit: true},
	"no Capabilities":                    {NoCapabilities: true, Commit: true},
	"neither":                            {NoGet: true, NoCapabilities: true, Serial: "SN-1"},
	"JSON_IETF only":                     {Encoding: "JSON_IETF", Commit: true},
	"JSON only, bare names":              {Encoding: "JSON", Names: "bare"},
	"JSON only, not told":                {Encoding: "JSON", Names: "bare", NoCapabilities: true},
	"scalar leaves":                      {Form: "leaves", Commit: true, Serial: "SN-1"},
	"scalar leaves, no Get":              {Form: "leaves", NoGet: true, NoNotFound: true},
	"blobs and leaves":                   {Form: "mixed"},
	"blobs that repeat a name":           {Form: "wrapped", Commit: true, Serial: "SN-1"},
	"empty origin":                       {EmptyOrigin: true, Commit: true},
	"empty origin, no Get":               {EmptyOrigin: true, NoGet: true, NoCapabilities: true, Encoding: "JSON", Names: "bare"},
	"target in the prefix":               {Target: "dc-leaf-1", NoNotFound: true},
	"interfaces and BGP alone, told":     {Lacks: []string{"acl", "bfd", "routing-policy"}, Tells: true, Commit: true},
	"interfaces and BGP alone, not told": {Lacks: []string{"acl", "bfd", "routing-policy"}, NoCapabilities: true, Form: "leaves"},
	"Get without a type":                 {AnyType: true, Form: "mixed", Commit: true},
	"says nothing of no data":            {NoNotFound: true, Commit: true},
}

// moreOfTheSame are those whose quirks others have, too.
var moreOfTheSame = []string{
	"refuses extensions", "JSON only, not told", "scalar leaves, no Get", "blobs that repeat a name", "empty origin, no Get",
	"interfaces and BGP alone, not told", "Get without a type", "says nothing of no data",
}

// device is a simulated device of a test.
type device struct{ *gnmibox.Device }

func newDevice(t testing.TB, h gnmibox.Habits) *device {
	t.Helper()
	d, err := gnmibox.New(h)
	must(t, err)
	return &device{d}
}

func (d *device) edit(t testing.TB, fn func(*gnmibox.Store)) {
	t.Helper()
	must(t, d.Edit(func(s *gnmibox.Store) error { fn(s); return nil }))
}

// rig is a driver's Box on a simulated device.
type rig struct {
	*device
	box foreign.Box
}

func open(t testing.TB, h gnmibox.Habits) *rig {
	t.Helper()
	d := newDevice(t, h)
	box, err := d.open(t, Config{Serial: h.Serial, Timeout: 30 * time.Second})
	must(t, err)
	return &rig{d, box}
}

func (d *device) open(t testing.TB, cfg Config) (foreign.Box, error) {
	t.Helper()
	addr, creds := d.serve(t)
	cfg.Quirks.Target = d.Target
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
		t.Fatalf("read back:\n%s\n%s", change, r.Text())
	}
}

// pruned is a configuration without empty containers, to compare.
func pruned(t testing.TB, text string) string {
	t.Helper()
	v, err := gnmibox.Parse([]byte(text))
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
			Accept: []netip.Prefix{pfx("10.64.0.0/10"), pfx("172.16.0.1/32")},
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
func each(t *testing.T, more bool, run func(*testing.T, gnmibox.Habits)) {
	for name, h := range zoo {
		if slices.Contains(moreOfTheSame, name) && !more {
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
	t.Parallel()
	each(t, false, func(t *testing.T, h gnmibox.Habits) {
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
						box, err := Open(t.Context(), conn, Config{Serial: h.Serial, Quirks: Quirks{Target: h.Target}})
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
	t.Parallel()
	for _, name := range []string{"by the book", "neither"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edgetest.Run(t, func(t *testing.T, keys map[string]crypto.PublicKey) controller.Driver {
				d := newDevice(t, zoo[name])
				addr, creds := d.serve(t)
				conn, err := Dial(addr, creds, nil, Quirks{})
				must(t, err)
				t.Cleanup(func() { must(t, conn.Close()) })
				box, err := OpenLater(conn, Config{Serial: d.Serial})
				must(t, err)
				_, err = box.Read(t.Context(), edge.Config{}) // opens it
				must(t, err)
				return drive(t, zoo[name], box, keys)
			})
		})
	}
}

func drive(t *testing.T, h gnmibox.Habits, box foreign.Box, keys map[string]crypto.PublicKey) controller.Driver {
	t.Helper()
	d, err := foreign.New(t.Context(), foreign.Deps{
		Device: edgetest.Device, Keys: keys, Box: box, Journal: &notes{}, Log: slog.New(slog.DiscardHandler),
	}, foreign.Config{})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	if rules := slices.Contains(d.Holds(), edge.KindRule); rules == slices.Contains(h.Lacks, "acl") {
		t.Fatalf("holds rules: %t", rules)
	}
	if d.Emulated() == h.Commit {
		t.Fatalf("emulated: %t, the device has Commit Confirmed: %t", d.Emulated(), h.Commit)
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
	t.Parallel()
	each(t, true, func(t *testing.T, h gnmibox.Habits) {
		r := open(t, h)
		before := pruned(t, r.Text())
		none, c := edge.Config{Device: edgetest.Device}, full()
		c.Circuits[0].Port = "eth3" // eth1 has an MTU that is not ours
		c.Segments[0].Port = "eth1.20"
		r.holds(t, none)
		r.write(t, none, c)
		sets := r.Sets()
		r.write(t, c, c)
		if r.Sets() != sets {
			t.Errorf("an unchanged device got %d Sets", r.Sets()-sets)
		}
		states, err := r.box.Tunnels(t.Context(), c)
		must(t, err)
		bfd := !slices.Contains(h.Lacks, "bfd")
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
		if after := pruned(t, r.Text()); after != before {
			t.Errorf("left behind:\n%s\nwas\n%s", after, before)
		}
	})
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for name, h := range zoo {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t, h)
			s := fmt.Sprint(r.box)
			for what, want := range map[string]bool{
				"Subscribe ONCE": h.NoGet, "Commit Confirmed": h.Commit, "commit emulated": !h.Commit, `origin ""`: h.EmptyOrigin,
				"Set in JSON,": h.Encoding == "JSON", ", without acl, bfd, routing-policy": len(h.Lacks) > 0,
			} {
				if strings.Contains(s, what) != want {
					t.Errorf("%s; want %q in it: %t", s, what, want)
				}
			}
		})
	}
}
