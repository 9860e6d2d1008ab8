//go:build lab

package service

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/miekg/dns"
	"github.com/vishvananda/netns"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// ward serves two segments from two DNS servers.
func ward() render.Input {
	return render.Input{Config: edge.Config{
		Device: "e-1", Site: "s-1", Role: inventory.RoleEdge, Loopback: addr("172.16.0.7"),
		BGP: edge.BGP{ASN: 4200000007, RouterID: addr("172.16.0.7")},
		Segments: []edge.Segment{
			{
				Kind: inventory.Staff, Port: "lan0", V4: prefix("10.64.0.0/23"), V6: prefix("fd5a:1::/64"),
				DHCP: edge.DHCP{
					From: addr("10.64.0.100"), To: addr("10.64.0.120"), LeaseSeconds: 3600,
					Reservations: []edge.Reservation{{MAC: "02:00:00:00:00:05", Addr: addr("10.64.0.5"), Name: "Máy in"}},
				},
				DNS: []netip.Addr{addr("192.0.2.53")}, NTP: []netip.Addr{addr("192.0.2.53")},
			},
			{
				Kind: inventory.Kiosk, Port: "lan1", V4: prefix("10.64.4.0/24"), V6: prefix("fd5a:1:0:2::/64"),
				DHCP: edge.DHCP{From: addr("10.64.4.100"), To: addr("10.64.4.120"), LeaseSeconds: 3600},
				DNS:  []netip.Addr{addr("192.0.2.54")},
			},
		},
	}}
}

// lab makes the box's ports: lan0 and lan1, whose other ends are in namespaces
// of these names, and dc0 towards the servers. The filter of the box is in.
func lab(t *testing.T, in render.Input) {
	t.Helper()
	ip := func(args ...string) { t.Helper(); hosttest.Run(t, "ip", args...) }
	for _, port := range []string{"lan0", "lan1", "dc0"} {
		space := hosttest.Space(port)
		ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
		ip("link", "set", port, "up")
		ip("-n", space, "link", "set", "eth0", "up")
	}
	ip("addr", "add", "192.0.2.1/24", "dev", "dc0")
	dc := hosttest.Space("dc0")
	ip("-n", dc, "addr", "add", "192.0.2.53/24", "dev", "eth0")
	ip("-n", dc, "addr", "add", "192.0.2.54/24", "dev", "eth0")
	ip("-n", dc, "route", "add", "10.64.0.0/16", "via", "192.0.2.1")
	box, err := render.New(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range box.Links {
		if l.Name == "lo" {
			continue
		}
		for _, a := range l.Addresses {
			ip("addr", "replace", a.String(), "dev", l.Name, "nodad")
		}
	}
	if _, err := program.Run(t.Context(), limit, []byte(box.NFT), "/usr/sbin/nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *Services {
	t.Helper()
	s, err := Open(Config{RunDir: dir + "/run", StateDir: dir + "/state", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func apply(t *testing.T, s *Services, in render.Input) {
	t.Helper()
	if err := s.Check(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if diff, err := s.Diff(t.Context(), in); err != nil || len(diff) > 0 {
		t.Fatalf("after Apply: %v, %v", diff, err)
	}
}

// inside runs what opens sockets in another namespace.
func inside(t *testing.T, space string, do func() error) {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromName(hosttest.Space(space))
		if err == nil {
			err = netns.Set(ns)
			_ = ns.Close() // it was only entered
		}
		if err == nil {
			err = do()
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatalf("in %s: %v", space, err)
	}
}

// resolver is a DNS server that answers everything with its own address and
// remembers who asked.
type resolver struct {
	own netip.Addr
	mu  sync.Mutex
	by  []netip.Addr
}

func serveDNS(t *testing.T, own string) *resolver {
	t.Helper()
	r := &resolver{own: addr(own)}
	inside(t, "dc0", func() error {
		c, err := net.ListenPacket("udp", own+":53")
		if err != nil {
			return err
		}
		srv := &dns.Server{PacketConn: c, Handler: r}
		go func() { _ = srv.ActivateAndServe() }() // until shut down
		t.Cleanup(func() { _ = srv.Shutdown() })
		return nil
	})
	return r
}

func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: r.own.AsSlice()}}
	from := netip.MustParseAddrPort(w.RemoteAddr().String()).Addr()
	r.mu.Lock()
	r.by = append(r.by, from)
	r.mu.Unlock()
	_ = w.WriteMsg(m) // the asker tries again
}

func (r *resolver) askers() []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by
}

// ask sends one query from a segment to its gateway.
func ask(t *testing.T, space, server, name string) (netip.Addr, error) {
	t.Helper()
	var got netip.Addr
	var failed error
	inside(t, space, func() error {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		reply, _, err := (&dns.Client{Timeout: 2 * time.Second}).Exchange(m, net.JoinHostPort(server, "53"))
		if failed = err; err != nil {
			return nil
		}
		if len(reply.Answer) == 1 {
			got = netip.AddrFrom4([4]byte(reply.Answer[0].(*dns.A).A.To4()))
		}
		return nil
	})
	return got, failed
}

// lease asks for an address as a host with this MAC does.
func lease(t *testing.T, space, mac string) *dhcpv4.DHCPv4 {
	t.Helper()
	hosttest.Run(t, "ip", "-n", hosttest.Space(space), "link", "set", "eth0", "address", mac)
	var ack *dhcpv4.DHCPv4
	inside(t, space, func() error {
		c, err := nclient4.New("eth0", nclient4.WithTimeout(5*time.Second), nclient4.WithRetry(3))
		if err != nil {
			return err
		}
		defer c.Close()
		l, err := c.Request(t.Context(), dhcpv4.WithRequestedOptions(dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionNTPServers))
		if err != nil {
			return err
		}
		ack = l.ACK
		return nil
	})
	return ack
}
