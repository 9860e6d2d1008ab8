// Package channel is the management channel: the edge dials one mTLS
// connection to the controller and serves its gRPC server on it, and the
// controller uses that same connection as the transport of a
// [grpc.ClientConn]. Connection, session and registration have one lifetime.
// A device's name comes from its certificate only; nothing is announced.
// The design is docs/design/0002-management-channel.md.
package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

// Protocol is the only application protocol (ALPN) of the channel: gRPC with
// gNMI, where the side that accepted the connection is the client.
const Protocol = "gnmi-rev/1"

const (
	readBuffer  = 4 << 10 // bytes; both ends, for thousands of idle sessions
	writeBuffer = 8 << 10 // bytes; gRPC gives it back while idle
)

// Defaults of both ends.
const (
	// DefaultKeepalive is how long a silent connection waits for its probe.
	DefaultKeepalive = 30 * time.Second
	// DefaultKeepaliveTimeout is how long the probe's answer may take. A frozen
	// peer is therefore noticed within 40 s.
	DefaultKeepaliveTimeout = 10 * time.Second
	// DefaultHandshakeTimeout bounds accept or dial to first gRPC frame.
	DefaultHandshakeTimeout = 15 * time.Second
	// DefaultMaxMessage bounds one gRPC message, in bytes; a hub's config with
	// 1,000 tunnels is about 1 MiB.
	DefaultMaxMessage = 16 << 20
)

// AuthInfo is what gRPC knows of the peer: the state of the TLS connection
// underneath, at both ends.
type AuthInfo struct {
	credentials.CommonAuthInfo
	TLS tls.ConnectionState
}

// AuthType names the mechanism, for gRPC.
func (AuthInfo) AuthType() string { return Protocol }

// established are transport credentials of a connection whose TLS handshake
// has already been made and checked; they make none of their own and so must
// never be given to an ordinary listener or dialer.
type established struct{ state tls.ConnectionState }

func (e established) info() AuthInfo {
	return AuthInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, e.state}
}

func (e established) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, e.info(), nil
}

func (e established) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, e.info(), nil
}

func (e established) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: Protocol}
}
func (e established) Clone() credentials.TransportCredentials { return e }

func (e established) OverrideServerName(string) error {
	return errors.New("the handshake has been made; the name can no longer be chosen")
}

// transport is a TLS connection that tells when it speaks and when it ends.
type transport struct {
	net.Conn               // *tls.Conn
	raw      net.Conn      // underneath; closed without waiting for a frozen peer
	first    chan struct{} // closed when the peer's first application byte has come
	closed   func()

	spoke, ended sync.Once
	cause        atomic.Pointer[error] // first read error, for the log
}

func newTransport(c, raw net.Conn, closed func()) *transport {
	return &transport{Conn: c, raw: raw, first: make(chan struct{}), closed: closed}
}

func (t *transport) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if n > 0 {
		t.spoke.Do(func() { close(t.first) })
	}
	if err != nil {
		t.cause.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Close ends the connection at once. A TLS close_notify would wait for a
// frozen peer, and HTTP/2 has its own framing to tell a cut from an end.
func (t *transport) Close() error {
	err := t.raw.Close()
	t.ended.Do(t.closed)
	return err
}

// why is the reason the connection ended as the peer or the network gave it.
func (t *transport) why() error {
	if p := t.cause.Load(); p != nil {
		return *p
	}
	return nil
}

// once is a dialer that gives c to the first caller and never dials again: a
// dead session must not come back under its old registration.
func once(c net.Conn) func(context.Context, string) (net.Conn, error) {
	var used atomic.Bool
	return func(context.Context, string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, fmt.Errorf("the connection from %s has ended; the device must dial again", c.RemoteAddr())
		}
		return c, nil
	}
}
