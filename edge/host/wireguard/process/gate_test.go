package process

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

func TestGateBoundsPacketsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4)
		g.wait()
		g.arrived(6) // a batch may exceed the limit by itself
		begin, passed := time.Now(), make(chan time.Duration, 1)
		go func() { g.wait(); passed <- time.Since(begin) }()
		for range 2 { // progress, yet no room
			time.Sleep(patience * 2 / 3)
			g.departed(1)
		}
		time.Sleep(patience * 2 / 3)
		g.departed(1)
		if got := <-passed; got != 3*(patience*2/3) {
			t.Errorf("passed after %s, want %s: when the third packet left", got, 3*(patience*2/3))
		}
	})
}

func TestGateForgetsPacketsThatNeverLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4)
		g.arrived(100)
		begin := time.Now()
		g.wait()
		if got := time.Since(begin); got != patience {
			t.Errorf("waited %s, want %s", got, patience)
		}
		g.departed(1000) // more than ever arrived
		g.arrived(3)
		g.wait()
		if n := g.n.Load(); n != 3 {
			t.Errorf("%d in flight, want 3", n)
		}
	})
}

// loseSource is a bind whose first packet of a cached source fails.
type loseSource struct {
	conn.Bind
	err  error
	sent []conn.Endpoint
}

func (l *loseSource) Send(_ [][]byte, to conn.Endpoint) error {
	l.sent = append(l.sent, to)
	if to.SrcIP().IsValid() {
		return l.err
	}
	return nil
}

// from is an endpoint with a cached source.
type from struct{ conn.Endpoint }

func (from) SrcIP() netip.Addr { return netip.MustParseAddr("192.0.2.1") }

func TestLostSourceIsForgotten(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{{syscall.EINVAL, true}, {syscall.ENETUNREACH, true}, {syscall.EPERM, false}, {errors.New("else"), false}} {
		inner := &loseSource{Bind: conn.NewStdNetBind(), err: c.err}
		to, err := inner.ParseEndpoint("198.51.100.1:9")
		if err != nil {
			t.Fatal(err)
		}
		b := &bind{Bind: inner, in: newGate(1), out: newGate(1)}
		if err := b.Send([][]byte{{1}}, from{to}); (err == nil) != c.want {
			t.Errorf("%v: %v", c.err, err)
		}
		if c.want && (len(inner.sent) != 2 || inner.sent[1].DstToString() != "198.51.100.1:9") {
			t.Errorf("%v: sent to %v", c.err, inner.sent)
		}
	}
}
