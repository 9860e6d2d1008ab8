package channel

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Session is one live management session.
type Session struct {
	Device inventory.DeviceID `json:"device"`
	Serial string             `json:"serial"` // of the certificate, lower-case hex
	Remote string             `json:"remote"` // address and port the device dialled from
	Since  time.Time          `json:"since"`  // UTC
}

type session struct {
	Session
	conn  *grpc.ClientConn
	state tls.ConnectionState
	ctx   context.Context // ends with the connection
	end   context.CancelCauseFunc
}

// slot is one device's place in the registry. It is kept when the session
// ends: there are no more of them than devices with a certificate.
type slot struct {
	turn sync.Mutex // held while a session comes or goes, callbacks included

	// Guarded by Server.mu.
	cur    *session
	swaps  []time.Time // of the last minute
	damped time.Time   // until when a live session is not superseded
}

var errSuperseded = errors.New("superseded by a newer connection of the same device")

// register makes sess the device's session: the latest wins, unless two
// claimants are taking turns.
func (s *Server) register(sess *session) error {
	s.mu.Lock()
	sl := s.slots[sess.Device]
	if sl == nil {
		sl = &slot{}
		s.slots[sess.Device] = sl
	}
	s.mu.Unlock()

	sl.turn.Lock()
	defer sl.turn.Unlock()
	s.mu.Lock()
	old := sl.cur
	swaps, err := s.damp(sl, time.Now())
	if err == nil {
		sl.cur = sess
	}
	s.mu.Unlock()
	if swaps > 0 {
		s.alarm(sess.Device, swaps)
	}
	if err != nil {
		sess.end(err)
		return &notAdmitted{refusedFlapping, fmt.Errorf("%s: %w", sess.Device, err)}
	}
	if old != nil {
		old.end(errSuperseded)
		s.down(old)
	}
	// Asked again now that CloseSerial can find the session: whoever was
	// revoked since the handshake is seen either here or there.
	if id, err := s.deps.Identify(sess.state); err != nil || id != sess.Device {
		s.mu.Lock()
		sl.cur = nil
		s.mu.Unlock()
		err = or(err, fmt.Errorf("the certificate now names %q", id))
		sess.end(err)
		return &notAdmitted{refusedIdentity, fmt.Errorf("%s: %w", sess.Device, err)}
	}
	s.metrics.sessions.Inc()
	s.deps.Log.InfoContext(sess.ctx, "session up", "device", sess.Device, "remote", sess.Remote)
	if s.deps.OnUp != nil {
		s.deps.OnUp(sess.Device)
	}
	return nil
}

// damp counts a swap of a live session and refuses it when there are too many;
// swaps > 0 asks for the alarm, once for each damping.
func (s *Server) damp(sl *slot, now time.Time) (swaps int, err error) {
	if sl.cur == nil || sl.cur.ctx.Err() != nil {
		return 0, nil
	}
	if now.Before(sl.damped) {
		return 0, errFlapping
	}
	sl.swaps = append(slices.DeleteFunc(sl.swaps, func(at time.Time) bool { return now.Sub(at) >= time.Minute }), now)
	if n := len(sl.swaps); n > s.cfg.Swaps {
		sl.damped, sl.swaps = now.Add(s.cfg.Damping), nil
		return n, errFlapping
	}
	s.metrics.swaps.Inc()
	return 0, nil
}

var errFlapping = errors.New("two claimants of this name take turns; the session in place stays: revoke the certificate that was copied, or stop the second agent")

func (s *Server) alarm(id inventory.DeviceID, swaps int) {
	s.metrics.flaps.Inc()
	s.deps.Log.Error("two claimants of one device name", "device", id, "swaps", swaps)
	if s.deps.OnFlap != nil {
		s.deps.OnFlap(id, swaps)
	}
}

// unregister ends sess, unless a newer one has taken its place and has told so.
func (s *Server) unregister(sess *session) {
	s.mu.Lock()
	sl := s.slots[sess.Device]
	s.mu.Unlock()
	sl.turn.Lock()
	defer sl.turn.Unlock()
	s.mu.Lock()
	mine := sl.cur == sess
	if mine {
		sl.cur = nil
	}
	s.mu.Unlock()
	if mine {
		s.down(sess)
	}
}

func (s *Server) down(sess *session) {
	s.metrics.sessions.Dec()
	s.deps.Log.Info("session down", "device", sess.Device, "remote", sess.Remote, "err", context.Cause(sess.ctx))
	if s.deps.OnDown != nil {
		s.deps.OnDown(sess.Device)
	}
}

// Conn returns the connection to a device, shared by all its users; they must
// not close it. [edge.ErrUnreachable] if the device has no session.
func (s *Server) Conn(id inventory.DeviceID) (*grpc.ClientConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.slots[id]; sl != nil && sl.cur != nil && sl.cur.ctx.Err() == nil {
		return sl.cur.conn, nil
	}
	return nil, fmt.Errorf("%w: %s has no management session; it dials by itself when it can", edge.ErrUnreachable, id)
}

// Sessions lists the live sessions by device.
func (s *Server) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Session, 0, len(s.slots))
	for _, sl := range s.slots {
		if sl.cur != nil && sl.cur.ctx.Err() == nil {
			out = append(out, sl.cur.Session)
		}
	}
	slices.SortFunc(out, func(a, b Session) int { return cmp.Compare(a.Device, b.Device) })
	return out
}

// CloseDevice ends the device's session and returns how many it ended. The
// reason goes to the log. The device may dial again.
func (s *Server) CloseDevice(id inventory.DeviceID, reason string) int {
	return s.closeIf(reason, func(sess Session) bool { return sess.Device == id })
}

// CloseSerial ends the sessions made with the certificate of this serial
// (lower-case hex). Call it after the revocation is in force: a connection that is
// being made at the same time then fails its second look-up.
func (s *Server) CloseSerial(serial, reason string) int {
	return s.closeIf(reason, func(sess Session) bool { return sess.Serial == serial })
}

// Connected says whether a device has a live session.
func (s *Server) Connected(id inventory.DeviceID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.slots[id]
	return sl != nil && sl.cur != nil && sl.cur.ctx.Err() == nil
}

// Recheck asks Identify about every live session again and ends those it now
// refuses, as of a device that has left the inventory.
func (s *Server) Recheck() int {
	s.mu.Lock()
	var live []*session
	for _, sl := range s.slots {
		if sl.cur != nil && sl.cur.ctx.Err() == nil {
			live = append(live, sl.cur)
		}
	}
	s.mu.Unlock()
	n := 0
	for _, sess := range live { // outside the lock: Identify looks things up
		id, err := s.deps.Identify(sess.state)
		if err == nil && id == sess.Device {
			continue
		}
		sess.end(or(err, fmt.Errorf("the certificate now names %q", id)))
		n++
	}
	return n
}

func (s *Server) closeIf(reason string, match func(Session) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, sl := range s.slots {
		if sl.cur != nil && sl.cur.ctx.Err() == nil && match(sl.cur.Session) {
			sl.cur.end(errors.New(reason))
			n++
		}
	}
	return n
}
