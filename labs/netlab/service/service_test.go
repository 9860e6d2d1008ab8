package service

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/netlab/netns"
	"github.com/wardnet/wardnet/labs/netlab/netns/netnstest"
)

func TestEveryKindAnswers(t *testing.T) {
	ns := netnstest.Spaces(t, "s")[0]
	at := func(port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	all := []netlab.Service{
		{NS: ns, Name: "ho-tich", Kind: netlab.ServiceHTTP, Proto: inventory.TCP, Addr: at(443)},
		{NS: ns, Name: "thoai", Kind: netlab.ServiceEcho, Proto: inventory.UDP, Addr: netip.AddrPortFrom(netip.IPv6Unspecified(), 5060)},
		{NS: ns, Name: "dns-1", Kind: netlab.ServiceDNS, Proto: inventory.UDP, Addr: at(53)},
		{NS: ns, Name: "dns-1", Kind: netlab.ServiceDNS, Proto: inventory.TCP, Addr: at(53)},
		{NS: ns, Name: "dns-1", Kind: netlab.ServiceNTP, Proto: inventory.UDP, Addr: at(123)},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, all, slog.New(slog.DiscardHandler), func() error { close(ready); return nil })
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}

	web := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return netns.Dial(ctx, ns, "tcp", addr)
	}}}
	res, err := web.Get("http://127.0.0.1:443/")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "ho-tich\n") {
		t.Errorf("HTTP answers %d %q, %v", res.StatusCode, body, err)
	}
	if got := ask(t, ns, "127.0.0.1:5060", []byte("alo")); string(got) != "alo\nthoai" {
		t.Errorf("echo answers %q", got)
	}
	for _, network := range []string{"udp", "tcp"} {
		if got := lookup(t, ns, network, "ho-tich."+Zone); got != "127.0.0.1" {
			t.Errorf("DNS over %s answers %q", network, got)
		}
		if got := lookup(t, ns, network, "example.com."); got != "REFUSED" {
			t.Errorf("DNS over %s answers %q for a foreign name", network, got)
		}
	}
	q := make([]byte, 48)
	q[0] = 4<<3 | 3 // version 4, client
	binary.BigEndian.PutUint64(q[40:], 42)
	got := ask(t, ns, "127.0.0.1:123", q)
	if len(got) != 48 || got[0]&7 != 4 || binary.BigEndian.Uint64(got[24:]) != 42 {
		t.Fatalf("NTP answers %x", got)
	}
	if at := time.Unix(int64(binary.BigEndian.Uint32(got[40:]))-ntpEpoch, 0); time.Since(at).Abs() > 2*time.Second {
		t.Errorf("NTP says it is %s", at)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Without a namespace's name it serves where it is, as in a container.
func TestServesWhereItIs(t *testing.T) {
	ns := netnstest.Spaces(t, "s")[0]
	at := netip.MustParseAddrPort("127.0.0.1:7")
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- netns.Do(ns, func() error {
			return Run(ctx, []netlab.Service{{Name: "here", Kind: netlab.ServiceEcho, Proto: inventory.UDP, Addr: at}},
				slog.New(slog.DiscardHandler), func() error { close(ready); return nil })
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	if got := ask(t, ns, at.String(), []byte("alo")); string(got) != "alo\nhere" {
		t.Errorf("echo answers %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAPortInUseIsAnError(t *testing.T) {
	ns := netnstest.Spaces(t, "s")[0]
	s := netlab.Service{NS: ns, Name: "a", Kind: netlab.ServiceHTTP, Proto: inventory.TCP, Addr: netip.MustParseAddrPort("127.0.0.1:80")}
	err := Run(t.Context(), []netlab.Service{s, s}, slog.New(slog.DiscardHandler), func() error { return nil })
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("two services on one port: %v", err)
	}
}

func ask(t *testing.T, ns, addr string, q []byte) []byte {
	t.Helper()
	c, err := netns.Dial(t.Context(), ns, "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(q); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 512)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func lookup(t *testing.T, ns, network, name string) string {
	t.Helper()
	c, err := netns.Dial(t.Context(), ns, network, "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn := &dns.Conn{Conn: c}
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	m, err := conn.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Answer) == 0 {
		return dns.RcodeToString[m.Rcode]
	}
	return m.Answer[0].(*dns.A).A.String()
}
