package channel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wardnet/wardnet/inventory"
)

// stranger opens a connection from a loopback address and says nothing.
func (b *bench) stranger(ip string) net.Conn {
	b.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.DialContext(b.t.Context(), "tcp", b.addr)
	must(b.t, err)
	b.t.Cleanup(func() { c.Close() })
	return c
}

func TestSilentStrangersDoNotKeepDevicesOut(t *testing.T) {
	b := newBench(t, Config{Handshakes: 4, Waiting: 40, HandshakeTimeout: time.Hour})
	for range 10 { // its share of those waiting
		b.stranger("127.0.0.2")
	}
	eventually(t, "all have come", func() bool { return len(b.waiting) >= 10 })
	for range 30 {
		b.stranger("127.0.0.2")
	}
	eventually(t, "the rest is turned away", func() bool { return b.count(refusedCrowded) == 30 })
	b.device("e-1")
	eventually(t, "the device is up", b.seen("e-1", "up"))
	if n := b.refusals(); n != 0 {
		t.Errorf("%d entries for the audit log, want none", n)
	}
}

func TestShareIsGivenBack(t *testing.T) {
	b := newBench(t, Config{Waiting: 4})
	for range 20 {
		c := b.stranger("127.0.0.2")
		eventually(t, "it has come", func() bool { return len(b.waiting) >= 2 }) // and the one that Serve accepts for
		must(t, c.Close())
		eventually(t, "it has gone", func() bool { return len(b.waiting) <= 1 })
	}
	b.shares.mu.Lock()
	defer b.shares.mu.Unlock()
	if n := b.count(refusedCrowded); n != 0 || len(b.shares.by) != 0 {
		t.Errorf("%v turned away, %d addresses are remembered", n, len(b.shares.by))
	}
}

// Devices that come back together are let in one after the other, and a
// stranger who tries as often as it can has no more than one address's turns.
func TestHandshakesArePaced(t *testing.T) {
	const perSecond, many = 40, 30
	b := newBench(t, Config{Rate: perSecond})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	defer func() { cancel(); <-gone }()
	go func() {
		defer close(gone)
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}
		for ctx.Err() == nil {
			c, err := d.DialContext(ctx, "tcp", b.addr)
			if err != nil {
				continue
			}
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).HandshakeContext(ctx)
			_ = c.Close()
		}
	}()
	begin := time.Now()
	for i := range many {
		b.device(inventory.DeviceID(fmt.Sprintf("e-%d", i)))
	}
	eventually(t, "all are up", func() bool { return b.count(accepted) == many })
	took := time.Since(begin).Seconds()
	if least := (many - 1) / (perSecond / 4.); took < least {
		t.Errorf("%d devices of one address were let in within %.1f s, it must take %.1f s at least", many, took, least)
	}
	if begun := testutil.ToFloat64(b.metrics.begun); begun > 2*(perSecond/4*took+3) {
		t.Errorf("%v handshakes of two addresses begun in %.1f s, %d a second are allowed each", begun, took, perSecond/4)
	}
	if n := b.count(refusedProtocol); n == 0 {
		t.Error("the stranger had no turn at all")
	}
}

func TestRefusalsAreToldAtABoundedRate(t *testing.T) {
	b := newBench(t, Config{})
	const many = 400
	for range many {
		c := tls.Client(b.stranger("127.0.0.2"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if c.Handshake() == nil {
			t.Fatal("h2 was accepted")
		}
		c.Close()
	}
	eventually(t, "all are counted", func() bool { return b.count(refusedProtocol) == many })
	eventually(t, "each is told or counted as untold", func() bool { return float64(b.refusals())+testutil.ToFloat64(b.metrics.untold) == many })
	if n := b.refusals(); n < 200 || n >= many {
		t.Errorf("%d of %d told", n, many)
	}
}

func TestSessionEndsWithItsCertificate(t *testing.T) {
	b := newBench(t, Config{})
	soon := time.Now().Add(2 * time.Second).Truncate(time.Second).Add(time.Second)
	cert := b.devices.issue(t, "e-1", func(c *x509.Certificate) { c.NotAfter = soon })
	b.start(func(c *EdgeConfig) { c.TLS = func() *tls.Config { return b.clientTLS(cert) } })
	eventually(t, "up", b.seen("e-1", "up"))
	eventually(t, "down", b.seen("e-1", "up", "down"))
	if now := time.Now(); now.Before(soon) {
		t.Errorf("ended %s before its certificate", soon.Sub(now))
	}
	eventually(t, "its return refused", func() bool { return b.count(refusedCertificate) > 0 })
}

func TestRecheckEndsWhomIdentifyRefuses(t *testing.T) {
	b := newBench(t, Config{})
	b.device("e-1")
	b.device("e-2")
	eventually(t, "both up", func() bool { return len(b.Sessions()) == 2 })
	if n := b.Recheck(); n != 0 {
		t.Errorf("Recheck() = %d while all are welcome", n)
	}
	serial := b.Sessions()[0].Serial
	b.mu.Lock()
	b.revoked[serial] = true
	b.mu.Unlock()
	if n := b.Recheck(); n != 1 {
		t.Errorf("Recheck() = %d, want 1", n)
	}
	eventually(t, "e-1 down", b.seen("e-1", "up", "down"))
	must(t, b.ping("e-2"))
}

func TestSubscriber(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7", "[::ffff:192.0.2.7]:1": "192.0.2.7",
		"[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64",
	} {
		a, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			if _, ok := errors.AsType[*net.DNSError](err); ok {
				continue // no such zone here
			}
			t.Fatal(err)
		}
		if got := subscriber(a); got != want {
			t.Errorf("subscriber(%s) = %s, want %s", text, got, want)
		}
	}
	if got := subscriber(&net.UnixAddr{Name: "x", Net: "unix"}); got != "x" {
		t.Errorf("subscriber of a unix socket = %q", got)
	}
}
