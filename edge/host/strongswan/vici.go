package strongswan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
)

// Packet types of VICI (README.md, "Transport protocol" and "Packet layer").
const (
	cmdRequest   = 0
	cmdResponse  = 1
	cmdUnknown   = 2
	eventRequest = 3
	eventConfirm = 5
	event        = 7
)

// maxPacket bounds what is read, as in strongSwan.
const maxPacket = 512 << 10

// answerWithin bounds one request. charon can hang for ever, with all its
// worker threads taken.
const answerWithin = 5 * time.Second

// client is one connection to charon, for one caller at a time. It is of no
// use after an error of the connection.
type client struct{ conn *net.UnixConn }

func dial(ctx context.Context, socket string) (*client, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("%w: no charon answers at %s: %w", edge.ErrUnreachable, socket, err)
	}
	return &client{c.(*net.UnixConn)}, nil
}

func (c *client) close() { _ = c.conn.Close() }

// pid is the process that listens at the other end.
func (c *client) pid() (int, error) {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, fmt.Errorf("whose socket charon's is: %w", inner)
	}
	return int(cred.Pid), nil
}

// call makes one request. A refusal wraps [edge.ErrRejected]; silence and a
// broken connection wrap [edge.ErrUnreachable].
func (c *client) call(ctx context.Context, command string, m *message) (*section, error) {
	s, err := c.exchange(ctx, command, m, nil)
	if err != nil {
		return nil, fmt.Errorf("charon: %s: %w", command, err)
	}
	if s.values["success"] == "no" {
		return nil, fmt.Errorf("charon: %s: %w: %s", command, edge.ErrRejected, s.values["errmsg"])
	}
	return s, nil
}

// stream makes a request whose answer comes as events of the given name.
func (c *client) stream(ctx context.Context, command, name string, m *message) ([]*section, error) {
	var out []*section
	if err := c.send(ctx, eventRequest, name, nil); err != nil {
		return nil, fmt.Errorf("charon: %s: %w", command, err)
	}
	kind, _, err := c.receive()
	if err == nil && kind != eventConfirm {
		err = fmt.Errorf("%w: it knows no event %s", edge.ErrRejected, name)
	}
	if err == nil {
		_, err = c.exchange(ctx, command, m, func(s *section) { out = append(out, s) })
	}
	if err != nil {
		return nil, fmt.Errorf("charon: %s: %w", command, err)
	}
	return out, nil
}

func (c *client) exchange(ctx context.Context, command string, m *message, each func(*section)) (*section, error) {
	if err := c.send(ctx, cmdRequest, command, m); err != nil {
		return nil, err
	}
	for {
		kind, body, err := c.receive()
		if err != nil {
			return nil, err
		}
		switch {
		case kind == event && each != nil:
			s, err := parseEvent(body)
			if err != nil {
				return nil, err
			}
			each(s)
		case kind == cmdResponse:
			return parse(body)
		case kind == cmdUnknown:
			return nil, fmt.Errorf("%w: it knows no such command", edge.ErrRejected)
		}
	}
}

func parseEvent(body []byte) (*section, error) {
	if len(body) == 0 || len(body) < 1+int(body[0]) {
		return nil, errMessage
	}
	return parse(body[1+int(body[0]):])
}

func (c *client) send(ctx context.Context, kind byte, name string, m *message) error {
	deadline := time.Now().Add(answerWithin)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	packet := append([]byte{0, 0, 0, 0, kind, byte(len(name))}, name...)
	if m != nil {
		packet = append(packet, m.Bytes()...)
	}
	binary.BigEndian.PutUint32(packet, uint32(len(packet)-4))
	if _, err := c.conn.Write(packet); err != nil {
		return errors.Join(edge.ErrUnreachable, err)
	}
	return nil
}

func (c *client) receive() (kind byte, body []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return 0, nil, errors.Join(edge.ErrUnreachable, err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxPacket {
		return 0, nil, errMessage
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return 0, nil, errors.Join(edge.ErrUnreachable, err)
	}
	return body[0], body[1:], nil
}
