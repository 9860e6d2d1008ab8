package people

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
)

// BreakGlassName is who root is on the unix socket.
const BreakGlassName = "root (break-glass)"

// Peer is the process at the other end of a unix socket, as the kernel saw it
// when it connected (SO_PEERCRED).
type Peer struct {
	UID int

	mu      sync.Mutex
	alarmed bool
}

type peerKey struct{}

// WithPeer adds the peer of a unix connection to ctx; other connections have
// none. Use it as http.Server.ConnContext.
func WithPeer(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	p, err := peerOf(uc)
	if err != nil {
		return ctx // nobody in particular: needs a token as anywhere else
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerOf returns the peer of the unix connection a request came by, or nil.
func PeerOf(ctx context.Context) *Peer {
	p, _ := ctx.Value(peerKey{}).(*Peer)
	return p
}

func peerOf(c *net.UnixConn) (*Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer of the unix socket: %w", err)
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return nil, fmt.Errorf("peer of the unix socket: %w", err)
	}
	return &Peer{UID: int(cred.Uid)}, nil
}

// BreakGlass makes root on the unix socket a principal with every role. The
// alarm is raised once per connection, before the first request is served; if
// it cannot be raised the request is refused and the next one tries again.
func (p *Peer) BreakGlass(ctx context.Context, alarm func(context.Context) error) (Principal, error) {
	if p == nil || p.UID != 0 {
		return Principal{}, ErrUnauthenticated
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alarmed {
		if err := alarm(ctx); err != nil {
			return Principal{}, fmt.Errorf("break-glass without its alarm: %w", err)
		}
		p.alarmed = true
	}
	return Principal{Name: BreakGlassName, Roles: slices.Clone(AllRoles), Via: ViaBreakGlass}, nil
}
