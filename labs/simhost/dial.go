package simhost

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Dial implements agent.Host: a real connection, accounted to the first circuit
// that passes traffic.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	p := h.path()
	if p == nil {
		return nil, fmt.Errorf("%w: dial %s from %s: no circuit works", edge.ErrUnreachable, addr, h.device)
	}
	raw, err := h.under.dialer(h.device).DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("%w: dial %s over %s: %w", edge.ErrUnreachable, addr, p.ID, err)
	}
	c := &conn{Conn: raw, under: h.under, port: p, ended: make(chan struct{})}
	h.under.mu.Lock()
	defer h.under.mu.Unlock()
	if p.cut { // meanwhile
		_ = raw.Close()
		return nil, fmt.Errorf("%w: dial %s over %s: the circuit went down", edge.ErrUnreachable, addr, p.ID)
	}
	p.conns[c] = struct{}{}
	return c, nil
}

// dialer connects from the device's own address, where it has one.
func (u *Underlay) dialer(id inventory.DeviceID) *net.Dialer {
	if u.cfg.From != nil {
		if a := u.cfg.From(id); a.IsValid() {
			return &net.Dialer{LocalAddr: &net.TCPAddr{IP: a.AsSlice()}}
		}
	}
	return &net.Dialer{}
}

// Drop ends the management connections of a device at both ends, as a carrier
// does that forgets a translation; its circuits work on. It says how many.
func (u *Underlay) Drop(id inventory.DeviceID) int {
	u.mu.Lock()
	var all []*conn
	for _, c := range u.order[id] {
		for x := range u.ports[c].conns {
			all = append(all, x)
		}
	}
	u.mu.Unlock()
	for _, x := range all { // takes the lock itself
		_ = x.Close()
	}
	return len(all)
}

// path is the first working circuit; nil when there is none.
func (h *Host) path() *port {
	h.under.mu.Lock()
	defer h.under.mu.Unlock()
	for _, id := range h.ports {
		if p := h.under.ports[id]; !p.cut && p.loss < deadRatio {
			return p
		}
	}
	return nil
}

// Connected counts the management connections that are up.
func (u *Underlay) Connected() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := 0
	for _, p := range u.ports {
		if !p.cut {
			n += len(p.conns)
		}
	}
	return n
}

// blackhole stops every connection of the port: nothing passes from now on,
// the near end gets an error once the cut is detected, and the far end sees
// nothing for halfOpen. The underlay is locked.
func (p *port) blackhole(halfOpen time.Duration) {
	for c := range p.conns {
		c.blackhole(halfOpen)
	}
}

// release ends what a cut left half open; the underlay is locked.
func (p *port) release() {
	for c := range p.conns {
		if c.dead() {
			c.finish()
			delete(p.conns, c)
		}
	}
}

// conn is a connection over one circuit.
type conn struct {
	net.Conn
	under *Underlay
	port  *port

	mu    sync.Mutex // guards below; taken after under.mu
	cut   bool
	timer *time.Timer   // ends the half-open connection
	ended chan struct{} // closed when the near end sees the error
	once  sync.Once
}

// Read implements net.Conn. What arrived after the cut is dropped: the port is
// gone, and an answer to the peer would be a packet over a cut circuit.
func (c *conn) Read(b []byte) (n int, err error) {
	if !c.dead() {
		n, err = c.Conn.Read(b)
	}
	if c.dead() {
		<-c.ended
		return 0, c.lost("read")
	}
	return n, err
}

// Write implements net.Conn; after the cut it behaves like a send buffer that
// nobody empties.
func (c *conn) Write(b []byte) (int, error) {
	if c.dead() {
		select {
		case <-c.ended:
			return 0, c.lost("write")
		default:
			return len(b), nil
		}
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn. Over a cut circuit the peer does not learn of it.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.ended) })
	if c.dead() {
		return nil // the timer or the heal closes it
	}
	c.under.mu.Lock()
	delete(c.port.conns, c)
	c.under.mu.Unlock()
	return c.Conn.Close()
}

func (c *conn) lost(op string) error {
	return fmt.Errorf("%w: %s: circuit %s is down", edge.ErrUnreachable, op, c.port.ID)
}

func (c *conn) dead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

func (c *conn) blackhole(halfOpen time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return
	}
	c.cut = true
	_ = c.Conn.SetReadDeadline(time.Now()) // wakes a reader, which then waits for the detection
	time.AfterFunc(min(detect, halfOpen), func() { c.once.Do(func() { close(c.ended) }) })
	c.timer = time.AfterFunc(halfOpen, func() {
		c.under.mu.Lock()
		defer c.under.mu.Unlock()
		delete(c.port.conns, c)
		_ = c.Conn.Close()
	})
}

// finish closes the real connection of a dead one.
func (c *conn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
	c.once.Do(func() { close(c.ended) })
	_ = c.Conn.Close()
}
