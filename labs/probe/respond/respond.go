// Package respond answers on many ports of many network namespaces from one
// process: TCP connections are accepted, datagrams are returned to their sender.
package respond

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// Host is where to listen.
type Host struct {
	Namespace string
	// Address is the one to listen on; zero: all of the namespace.
	Address netip.Addr
	Ports   []inventory.PortRange // TCP and UDP; each port of a range gets a socket
}

// idle is how long a TCP connection may be silent.
const idle = 10 * time.Second

// Responder holds the sockets.
type Responder struct {
	wg      sync.WaitGroup
	sockets []io.Closer

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// Start opens all sockets and answers until Close. A port that somebody in the
// namespace listens on already is left to them.
func Start(ctx context.Context, hosts []Host) (*Responder, error) {
	r := &Responder{conns: map[net.Conn]bool{}}
	for _, h := range hosts {
		if err := netns.Do(h.Namespace, func() error { return r.open(ctx, h) }); err != nil {
			return nil, errors.Join(fmt.Errorf("listen in namespace %s: %w", h.Namespace, err), r.Close())
		}
	}
	return r, nil
}

// Sockets is how many are open.
func (r *Responder) Sockets() int { return len(r.sockets) }

// Close ends everything and waits for it.
func (r *Responder) Close() error {
	var errs []error
	for _, s := range r.sockets {
		errs = append(errs, s.Close())
	}
	r.mu.Lock()
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
	return errors.Join(errs...)
}

func (r *Responder) open(ctx context.Context, h Host) error {
	var errs []error
	for _, ports := range h.Ports {
		for n := int(ports.From); n <= int(ports.To) && ports.Proto != inventory.ICMP; n++ {
			for _, family := range []string{"4", "6"} {
				host := ""
				if h.Address.IsValid() {
					if h.Address.Is4() != (family == "4") {
						continue
					}
					host = h.Address.String()
				}
				err := r.listen(ctx, string(ports.Proto)+family, net.JoinHostPort(host, strconv.Itoa(n)))
				if err != nil && !errors.Is(err, unix.EADDRINUSE) {
					errs = append(errs, err)
				}
			}
		}
	}
	return errors.Join(errs...)
}

func (r *Responder) listen(ctx context.Context, network, addr string) error {
	var lc net.ListenConfig
	if network[:3] == "tcp" {
		l, err := lc.Listen(ctx, network, addr)
		if err != nil {
			return err
		}
		r.sockets = append(r.sockets, l)
		r.wg.Go(func() { r.accept(l) })
		return nil
	}
	c, err := lc.ListenPacket(ctx, network, addr)
	if err != nil {
		return err
	}
	r.sockets = append(r.sockets, c)
	back, err := returner(network == "udp6", c.(*net.UDPConn)) // what a UDP network gives
	if err != nil {
		return err
	}
	r.wg.Go(back)
	return nil
}

func (r *Responder) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		r.mu.Lock()
		r.conns[c] = true
		r.mu.Unlock()
		r.wg.Go(func() {
			serve(c)
			r.mu.Lock()
			delete(r.conns, c)
			r.mu.Unlock()
		})
	}
}

// serve returns what comes until the other end has nothing more to say.
func serve(c net.Conn) {
	defer c.Close()
	b := make([]byte, 4096)
	for {
		if err := c.SetDeadline(time.Now().Add(idle)); err != nil {
			return
		}
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}
