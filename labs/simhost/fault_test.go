package simhost

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

func TestDropEndsTheConnectionAndNotTheCircuit(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := newCity(t, 1)
	c.cfg.From = func(inventory.DeviceID) netip.Addr { return netip.MustParseAddr("127.0.7.7") }
	for range 3 {
		near, err := c.ward.Dial(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if from, _, _ := net.SplitHostPort(far.RemoteAddr().String()); from != "127.0.7.7" {
			t.Errorf("the device comes from %s", from)
		}
		if n := c.Drop(c.ward.device); n != 1 || c.Connected() != 0 {
			t.Errorf("%d connections dropped, %d left", n, c.Connected())
		}
		for end, x := range map[string]net.Conn{"near": near, "far": far} {
			_ = x.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := x.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Errorf("%s end read %d, %v; want the end", end, n, err)
			}
		}
		far.Close()
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestFaultsAreChecked(t *testing.T) {
	c := newCity(t, 1)
	if err := c.Cut("w-a", "nowhere"); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("unknown circuit: %v", err)
	}
	if st, _ := c.ward.State(t.Context()); c.ports["w-a"].cut || len(st.Tunnels) != 0 {
		t.Error("a refused fault changed something")
	}
	if err := c.Impair(1.5, 0, "w-a"); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("loss 1.5: %v", err)
	}
	bad := wardConfig(names...)
	bad.Circuits = append(bad.Circuits, edge.Circuit{Name: "h-a"})
	bad.Tunnels[0].MTU = 1
	err := c.ward.Validate(t.Context(), bad)
	if !errors.Is(err, inventory.ErrInvalid) || len(err.(interface{ Unwrap() []error }).Unwrap()) != 2 {
		t.Errorf("validate: %v, want two faults", err)
	}
}
