package sim

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/channel"
	"github.com/wardnet/wardnet/edge/gnmi"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// controlPlane is the controller's half that edges talk to: the real PKI on a
// real store, its enrolment listener, and the management channel.
type controlPlane struct {
	*testing.T
	pki     *pki.PKI
	channel *channel.Server
}

func newControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(dir, "wardnet.db"))
	must(t, err)
	enrolLn, channelLn, caLn := listen(t), listen(t), listen(t)
	c := &controlPlane{T: t}
	c.pki, err = pki.Open(t.Context(), pki.Deps{
		Store: store.NewPKI(db, "hcmc"), Dir: dir, Log: log,
		Audit: func(context.Context, pki.Event) error { return nil },
	}, pki.Config{
		EnrolURL: "https://" + enrolLn.Addr().String(),
		Channel:  channelLn.Addr().String(),
		CAURL:    "https://" + caLn.Addr().String(),
	})
	must(t, err)
	c.channel, err = channel.NewServer(channel.Deps{TLS: c.pki.HubTLS(pki.ChannelListener), Identify: c.pki.IdentifyDevice, Log: log}, channel.Config{})
	must(t, err)
	c.pki.OnIssuersChanged(func() { c.channel.Recheck() })
	enrolment, ca := &http.Server{Handler: c.pki.EnrolHandler()}, &http.Server{Handler: c.pki.CAHandler()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	go func() { done <- ca.Serve(tls.NewListener(caLn, httpOnly(c.pki.HubTLS(pki.CAListener)))) }()
	go func() { done <- c.channel.Serve(ctx, channelLn) }()
	go func() { done <- enrolment.Serve(tls.NewListener(enrolLn, c.pki.HubTLS(pki.EnrolListener))) }()
	t.Cleanup(func() {
		cancel()
		enrolment.Close()
		ca.Close()
		for range 3 {
			<-done
		}
		db.Close()
	})
	return c
}

// httpOnly keeps a server that has not set up HTTP/2 from offering it.
func httpOnly(c *tls.Config) *tls.Config {
	inner := c.GetConfigForClient
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		own, err := inner(h)
		if err == nil {
			own.NextProtos = []string{"http/1.1"}
		}
		return own, err
	}
	return c
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// admit gives every edge a bundle with a fresh token.
func (c *controlPlane) admit(edges []Edge) {
	c.Helper()
	for i := range edges {
		e := &edges[i]
		token, _, err := c.pki.CreateToken(c.Context(), e.Device, e.Serial, "test")
		must(c, err)
		b := c.pki.Bundle(e.Device, e.Serial, token)
		e.Bundle = &b
	}
}

// driver is the device's driver once its session is up.
func (c *controlPlane) driver(id inventory.DeviceID) *gnmi.Driver {
	c.Helper()
	var d *gnmi.Driver
	eventually(c, 30*time.Second, func() error {
		conn, err := c.channel.Conn(id)
		if err == nil {
			d = gnmi.New(conn, gnmi.Config{Timeout: 2 * time.Second})
		}
		return err
	})
	return d
}

// push puts cfg with all enrolled peers in force and confirms it.
func (c *controlPlane) push(cfg edge.Config, revision uint64) {
	c.Helper()
	d := c.driver(cfg.Device)
	epoch, keys, err := c.pki.WireGuardKeys(c.Context())
	must(c, err)
	must(c, d.SetCredentials(c.Context(), edge.Credentials{Epoch: epoch, At: time.Now().UTC(), Keys: keys}))
	key := c.pki.Keys()[pki.RevisionKey]
	want, err := edge.SignConfig(cfg, revision, key.Signer, key.ID)
	must(c, err)
	id := edge.CommitID(fmt.Sprintf("r%d", revision))
	must(c, d.Apply(c.Context(), id, want, 45*time.Second))
	must(c, d.Confirm(c.Context(), id))
}

// town is two hubs and n wards; odd wards have one circuit only. Every circuit
// has a tunnel to each hub.
func town(n int) ([]Edge, []edge.Config) {
	edges := []Edge{
		{Device: "hub-1", Serial: "sn-hub-1", Site: "h-1", Role: inventory.RoleHub, Circuits: []Circuit{{ID: "h1", Kind: inventory.Metronet, Carrier: "tsl"}}},
		{Device: "hub-2", Serial: "sn-hub-2", Site: "h-2", Role: inventory.RoleHub, Circuits: []Circuit{{ID: "h2", Kind: inventory.Metronet, Carrier: "tsl"}}},
	}
	for i := range n {
		id := fmt.Sprintf("e-%03d", i+1)
		e := Edge{Device: inventory.DeviceID(id), Serial: "sn-" + id, Site: inventory.SiteID("s" + id[1:]), Role: inventory.RoleEdge}
		e.Circuits = append(e.Circuits, Circuit{ID: inventory.CircuitID("c" + id[1:] + "-a"), Kind: inventory.FTTH, Carrier: "viettel"})
		if i%2 == 1 {
			e.Circuits = append(e.Circuits, Circuit{ID: inventory.CircuitID("c" + id[1:] + "-b"), Kind: inventory.LTE, Carrier: "vnpt"})
		}
		edges = append(edges, e)
	}
	configs := make([]edge.Config, len(edges))
	for i, e := range edges {
		configs[i] = edge.Config{Device: e.Device, Site: e.Site, Role: e.Role}
		for _, c := range e.Circuits {
			configs[i].Circuits = append(configs[i].Circuits, edge.Circuit{Name: string(c.ID), Kind: c.Kind, MTU: 1500})
		}
	}
	link := netip.MustParseAddr("172.18.0.0")
	for i := 2; i < len(edges); i++ {
		for j, c := range edges[i].Circuits {
			for h := range 2 {
				name := string(c.ID) + "--" + string(edges[h].Device)
				far := link.Next()
				tun := edge.Tunnel{Name: name, Kind: edge.WireGuard, MTU: 1400, Preference: 200 - 10*h - j}
				at := tun
				at.Circuit, at.Peer, at.Local, at.Remote = string(c.ID), edges[h].Device, netip.PrefixFrom(far, 31), link
				join(&configs[i], at)
				at = tun
				at.Circuit, at.Peer, at.Local, at.Remote = string(edges[h].Circuits[0].ID), edges[i].Device, netip.PrefixFrom(link, 31), far
				join(&configs[h], at)
				link = far.Next()
			}
		}
	}
	return edges, configs
}

// join adds a tunnel with its BGP neighbour.
func join(c *edge.Config, t edge.Tunnel) {
	c.Tunnels = append(c.Tunnels, t)
	c.BGP.Neighbours = append(c.BGP.Neighbours, edge.Neighbour{Tunnel: t.Name, Addr: t.Remote, BFDMinMS: 300, BFDMult: 3})
	c.Contract.BFD = append(c.Contract.BFD, t.Name)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until try succeeds.
func eventually(t testing.TB, within time.Duration, try func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); ; <-tick.C {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %s: %v", within, err)
		}
	}
}
