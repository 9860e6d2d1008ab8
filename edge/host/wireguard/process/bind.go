package process

import (
	"errors"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// bind is the module's UDP socket pair with two changes: packets in flight are
// bounded, and a cached source that no longer works is forgotten by the packet
// that finds out. The module would instead ask the kernel for every peer's
// route at every change of any route, which a hub that learns routes by BGP
// cannot afford; it does so for its own type of bind only.
type bind struct {
	conn.Bind
	in, out *gate
}

// Open implements conn.Bind.
func (b *bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	fns, port, err := b.Bind.Open(port)
	for i, receive := range fns {
		fns[i] = func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			b.in.wait()
			n, err := receive(packets, sizes, eps)
			b.in.arrived(n)
			return n, err
		}
	}
	return fns, port, err
}

// Send implements conn.Bind.
func (b *bind) Send(packets [][]byte, to conn.Endpoint) error {
	err := b.Bind.Send(packets, to)
	b.out.departed(len(packets))
	if err == nil || !to.SrcIP().IsValid() || !lostSource(err) {
		return err
	}
	fresh, perr := b.ParseEndpoint(to.DstToString())
	if perr != nil {
		return err
	}
	return b.Bind.Send(packets, fresh)
}

// lostSource tells errors of a source address or interface that is gone from
// other errors.
func lostSource(err error) bool {
	for _, e := range []error{unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENODEV, unix.ENETUNREACH, unix.EHOSTUNREACH} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
