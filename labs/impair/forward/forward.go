// Package forward delays, slows and loses what passes a port of the lab's own
// routers, in userspace, for kernels without netem. Nothing in the box at the
// other end of the link is touched.
//
// Traffic control hands every IP packet of the port, both ways, to a veth pair
// whose far end lies in a namespace of the forwarder's own. What comes from the
// box goes back through the pair after its time and is routed on from there; what
// goes to the box is sent out of the port past traffic control. Duplicate
// address and neighbour discovery and DHCP stay on the port.
package forward

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Port names an interface of one of the lab's routers.
type Port struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Shadow is the name of the veth end that stands beside the port while it is
// shaped; packets from the box come in there.
func (p Port) Shadow() string {
	return fmt.Sprintf("wf%x", sha256.Sum256([]byte(p.Name)))[:12]
}

const (
	// backlog bounds the frames that wait in one direction.
	backlog = 16384
	// maxFrame is more than any frame of ours: offloads are off on the pair.
	maxFrame = 9216
)

// Run shapes the port until ctx ends, then leaves it as it was. It calls ready
// once packets pass through it.
func Run(ctx context.Context, port Port, shape Shape, ready func()) error {
	if err := shape.Validate(); err != nil {
		return err
	}
	if shape.zero() {
		return fmt.Errorf("%w: neither delay, rate nor loss is given", inventory.ErrInvalid)
	}
	s, err := splice(port)
	if err != nil {
		return errors.Join(fmt.Errorf("shape port %s of namespace %s: %w", port.Name, port.Namespace, err), Remove(port))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	up := newQueue(newLane(shape, 1), s.pair) // from the box
	down := newQueue(newLane(shape, 2), s.port)
	var wg sync.WaitGroup
	wg.Go(func() { up.drain(ctx) })
	wg.Go(func() { down.drain(ctx) })
	wg.Go(func() { classify(s.pair, s.mac, up, down); stop() })
	if ready != nil {
		ready()
	}
	<-ctx.Done()
	err = Remove(port) // before the sockets: until here packets need us
	_ = s.pair.SetReadDeadline(time.Now())
	wg.Wait()
	return errors.Join(err, s.close())
}

// classify reads frames off the pair and queues each for its direction: what
// the port itself sends has the port's address as source.
func classify(pair *os.File, mac net.HardwareAddr, up, down *queue) {
	for {
		b := make([]byte, maxFrame)
		n, err := pair.Read(b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			if _, gone := errors.AsType[*os.PathError](err); gone {
				return
			}
			continue
		case n < 14:
			continue
		}
		now := time.Now()
		if bytes.Equal(b[6:12], mac) {
			down.put(now, b[:n])
		} else {
			up.put(now, b[:n])
		}
	}
}

type frame struct {
	at    time.Time
	bytes []byte
}

// queue holds the frames of one direction until their time; they leave in the
// order they came.
type queue struct {
	lane *lane
	out  *os.File
	wait chan frame
}

func newQueue(l *lane, out *os.File) *queue {
	return &queue{lane: l, out: out, wait: make(chan frame, backlog)}
}

func (q *queue) put(now time.Time, b []byte) {
	at, ok := q.lane.admit(now, len(b))
	if !ok {
		return
	}
	select {
	case q.wait <- frame{at, b}:
	default: // full: lost, as on any link
	}
}

func (q *queue) drain(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-q.wait:
			if d := time.Until(f.at); d > 0 {
				t.Reset(d)
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
			}
			_, _ = q.out.Write(f.bytes) // a port that is down loses it
		}
	}
}
