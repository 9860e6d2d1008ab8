package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

func (b *bench) count(outcome string) float64 {
	return testutil.ToFloat64(b.metrics.handshakes.WithLabelValues(outcome))
}

func TestSession(t *testing.T) {
	b := newBench(t, Config{})
	if _, err := b.Conn("e-1"); !errors.Is(err, edge.ErrUnreachable) {
		t.Errorf("Conn() before any session = %v, want ErrUnreachable", err)
	}
	e := b.device("e-1")
	eventually(t, "session up", b.seen("e-1", "up"))
	must(t, b.ping("e-1"))
	s := b.Sessions()
	if len(s) != 1 || s[0].Device != "e-1" || s[0].Serial == "" || s[0].Since.Location() != time.UTC {
		t.Errorf("Sessions() = %+v", s)
	}
	if n := testutil.ToFloat64(b.metrics.sessions); n != 1 {
		t.Errorf("channel_sessions %v, want 1", n)
	}

	// The process is killed: the kernel closes its socket.
	must(t, (<-e.conns).Close())
	eventually(t, "down, and dialled again", b.seen("e-1", "up", "down", "up"))
	must(t, b.ping("e-1"))
	e.stop()
	eventually(t, "down", b.seen("e-1", "up", "down", "up", "down"))
	if n := b.refusals(); n != 0 {
		t.Errorf("%d refusals: %v", n, b.refused)
	}
}

// Two agents with one certificate: the latest wins, then the swapping is
// stopped and told.
func TestSuperseding(t *testing.T) {
	b := newBench(t, Config{Swaps: 2})
	cert := b.devices.issue(t, "e-1")
	clone := func() *edgeEnd {
		return b.start(func(c *EdgeConfig) {
			c.TLS = func() *tls.Config { return b.clientTLS(cert) }
			c.MinBackoff, c.MaxBackoff = time.Hour, time.Hour // one attempt each
		})
	}
	clone()
	eventually(t, "first up", b.seen("e-1", "up"))
	old, err := b.Conn("e-1")
	must(t, err)
	clone()
	eventually(t, "second up", b.seen("e-1", "up", "down", "up"))
	if cc, err := b.Conn("e-1"); err != nil || cc == old {
		t.Errorf("Conn() = %p, %v; want a new one, not %p", cc, err, old)
	}
	must(t, b.ping("e-1"))
	clone()
	eventually(t, "third up", b.seen("e-1", "up", "down", "up", "down", "up"))
	clone()
	eventually(t, "fourth refused", func() bool { return b.count(refusedFlapping) == 1 })
	clone()
	eventually(t, "fifth refused", func() bool { return b.count(refusedFlapping) == 2 })
	must(t, b.ping("e-1")) // by the third
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.flaps != 1 || len(b.events["e-1"]) != 5 {
		t.Errorf("%d alarms, events %v; want 1 alarm and no more events", b.flaps, b.events["e-1"])
	}
	if n := testutil.ToFloat64(b.metrics.swaps); n != 2 {
		t.Errorf("channel_swaps_total %v, want 2", n)
	}
}

func TestRevocationEndsTheSession(t *testing.T) {
	b := newBench(t, Config{})
	b.device("e-1")
	b.device("e-2")
	eventually(t, "both up", func() bool { return len(b.Sessions()) == 2 })
	serial := b.Sessions()[0].Serial
	b.mu.Lock()
	b.revoked[serial] = true
	b.mu.Unlock()
	if n := b.CloseSerial(serial, "certificate revoked"); n != 1 {
		t.Errorf("CloseSerial() = %d, want 1", n)
	}
	eventually(t, "e-1 down", b.seen("e-1", "up", "down"))
	eventually(t, "its return refused", func() bool { return b.refusals() > 2 })
	if !b.seen("e-1", "up", "down")() || len(b.Sessions()) != 1 {
		t.Errorf("the revoked device is back: %v", b.Sessions())
	}
	must(t, b.ping("e-2"))
	if n := b.CloseDevice("e-2", "test"); n != 1 {
		t.Errorf("CloseDevice() = %d, want 1", n)
	}
	eventually(t, "e-2 back", b.seen("e-2", "up", "down", "up"))
}

// Revoked after the handshake and before the registration: CloseSerial finds
// nothing, so the second look must.
func TestRevokedWhileConnecting(t *testing.T) {
	b := newBench(t, Config{})
	calls := 0
	b.deps.Identify = func(st tls.ConnectionState) (inventory.DeviceID, error) {
		id, err := b.identify(st)
		b.mu.Lock()
		defer b.mu.Unlock()
		calls++
		b.revoked[st.PeerCertificates[0].SerialNumber.Text(16)] = true
		return id, err
	}
	b.device("e-1")
	eventually(t, "refused", func() bool { return b.count(refusedIdentity) >= 1 })
	if !b.seen("e-1")() || len(b.Sessions()) != 0 {
		t.Errorf("a revoked certificate got a session")
	}
}

func TestStrangersAreRefused(t *testing.T) {
	t.Run("by ClientCAs", func(t *testing.T) { strangers(t, newBench(t, Config{HandshakeTimeout: 500 * time.Millisecond})) })
	t.Run("by VerifyConnection", func(t *testing.T) {
		b := newBench(t, Config{HandshakeTimeout: 500 * time.Millisecond}, selfVerified)
		strangers(t, b)
		b.device("e-2")
		eventually(t, "a device of ours is up", b.seen("e-2", "up"))
		must(t, b.ping("e-2"))
	})
}

func strangers(t *testing.T, b *bench) {
	foreign := newAuthority(t, "foreign")
	good := b.devices.issue(t, "e-1")
	handshake := func(cfg *tls.Config) {
		t.Helper()
		c, err := net.Dial("tcp", b.addr)
		must(t, err)
		defer c.Close()
		tc := tls.Client(c, cfg)
		if tc.HandshakeContext(t.Context()) == nil { // TLS 1.3: refused after the client's part
			if n, err := tc.Read(make([]byte, 1)); err == nil {
				t.Errorf("read %d bytes as a stranger", n)
			}
		}
	}
	with := func(cert *tls.Certificate, edit func(*tls.Config)) *tls.Config {
		cfg := edgeTLS(b.clientTLS(cert), hubName)
		edit(cfg)
		return cfg
	}
	none := func(*tls.Config) {}
	for _, tt := range []struct {
		name, outcome string
		audited       int
		do            func()
	}{
		{"another CA", refusedCertificate, 1, func() { handshake(with(foreign.issue(t, "e-1"), none)) }},
		{"the hub's issuer", refusedCertificate, 1, func() { handshake(with(b.hub.issue(t, "e-1"), none)) }},
		{"no certificate", refusedCertificate, 1, func() { handshake(with(&tls.Certificate{}, none)) }},
		{"no device in it", refusedIdentity, 1, func() { handshake(with(b.devices.issue(t, hubName), none)) }},
		{"wrong protocol", refusedProtocol, 1, func() { handshake(with(good, func(c *tls.Config) { c.NextProtos = []string{"h2"} })) }},
		{"no protocol", refusedProtocol, 1, func() { handshake(with(good, func(c *tls.Config) { c.NextProtos = nil })) }},
		{"TLS 1.2", refusedProtocol, 1, func() {
			handshake(with(good, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }))
		}},
		{"not TLS", failed, 0, func() {
			c, err := net.Dial("tcp", b.addr)
			must(t, err)
			defer c.Close()
			_, err = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			must(t, err)
			eventually(t, "counted", func() bool { return b.count(failed) > 0 })
		}},
		{"silent", timedOut, 0, func() {
			c, err := net.Dial("tcp", b.addr)
			must(t, err)
			defer c.Close()
			eventually(t, "timed out", func() bool { return b.count(timedOut) > 0 })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, audited := b.count(tt.outcome), b.refusals()
			tt.do()
			eventually(t, "counted as "+tt.outcome, func() bool { return b.count(tt.outcome) == before+1 })
			eventually(t, "audited", func() bool { return b.refusals() == audited+tt.audited })
		})
	}
	if !b.seen("e-1")() {
		t.Error("a stranger got a session")
	}
}

// A peer with a good certificate that never starts gRPC must not push a
// working session aside.
func TestSilentCloneDoesNotSupersede(t *testing.T) {
	b := newBench(t, Config{HandshakeTimeout: 300 * time.Millisecond})
	b.device("e-1")
	eventually(t, "up", b.seen("e-1", "up"))
	c, err := tls.Dial("tcp", b.addr, edgeTLS(b.clientTLS(b.devices.issue(t, "e-1")), hubName))
	must(t, err)
	defer c.Close()
	eventually(t, "timed out", func() bool { return b.count(timedOut) == 1 })
	if !b.seen("e-1", "up")() {
		t.Error("the silent connection took the session")
	}
	must(t, b.ping("e-1"))
}

// 200 edges dial at once through few handshake slots; all come up, all speak,
// all go.
func TestManyAtOnce(t *testing.T) {
	b := newBench(t, Config{Handshakes: 8})
	const n = 200
	certs := make([]*tls.Certificate, n)
	for i := range certs {
		certs[i] = b.devices.issue(t, fmt.Sprintf("e-%03d", i))
	}
	start := time.Now()
	ends := make([]*edgeEnd, n)
	for i := range ends {
		ends[i] = b.start(func(c *EdgeConfig) { c.TLS = func() *tls.Config { return b.clientTLS(certs[i]) } })
	}
	eventually(t, "all up", func() bool { return len(b.Sessions()) == n })
	t.Logf("%d sessions up in %s", n, time.Since(start))
	for _, s := range b.Sessions() {
		must(t, b.ping(s.Device))
	}
	for _, e := range ends {
		go e.stop()
	}
	for i := range n {
		id := inventory.DeviceID(fmt.Sprintf("e-%03d", i))
		eventually(t, string(id)+" down, once", b.seen(id, "up", "down"))
	}
	if left := testutil.ToFloat64(b.metrics.sessions); left != 0 {
		t.Errorf("channel_sessions %v, want 0", left)
	}
}

// When the controller stops, every session is told down, once.
func TestServeEnds(t *testing.T) {
	b := newBench(t, Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, ln) }()
	cert := b.devices.issue(t, "e-9")
	b.start(func(c *EdgeConfig) {
		c.TLS = func() *tls.Config { return b.clientTLS(cert) }
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
		}
	})
	eventually(t, "up", b.seen("e-9", "up"))
	cancel()
	must(t, <-done)
	if !b.seen("e-9", "up", "down")() {
		t.Errorf("events %v after Serve returned", b.events["e-9"])
	}
}
