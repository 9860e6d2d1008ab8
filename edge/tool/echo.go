package tool

import (
	"context"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/edge/gnoi"
)

// Ping implements gnoi.ToolsServer.
func (s *Server) Ping(m *gnoi.PingRequest, out grpc.ServerStreamingServer[gnoi.PingReply]) error {
	spec, err := readPing(m)
	if err != nil {
		return toStatus(err)
	}
	sock, end, err := s.open(out.Context(), spec.from, spec.to, spec.dontFragment)
	if err != nil {
		return toStatus(err)
	}
	defer end()
	p := newPinging(spec, time.Now())
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		for _, seq := range p.late(time.Now()) {
			if err := out.Send(&gnoi.PingReply{Sequence: uint32(seq)}); err != nil {
				return err
			}
		}
		if seq, ok := p.due(time.Now()); ok {
			state, err := sock.send(seq, spec.size, defaultHopLimit)
			if err != nil {
				return toStatus(err)
			}
			if state != "" && p.fail(seq) {
				if err := out.Send(&gnoi.PingReply{Sequence: uint32(seq), Error: state}); err != nil {
					return err
				}
			}
		}
		if p.done() {
			return out.Send(&gnoi.PingReply{Summary: p.summary()})
		}
		wait.Reset(time.Until(p.wake()))
		select {
		case <-out.Context().Done():
			return status.FromContextError(out.Context().Err()).Err()
		case a := <-sock.in:
			if r := p.reply(a); r != nil {
				if err := out.Send(r); err != nil {
					return err
				}
			}
		case <-wait.C:
		}
	}
}

// reply ends the sequence that a answers; nil where none is waited for.
func (p *pinging) reply(a arrival) *gnoi.PingReply {
	r := &gnoi.PingReply{Sequence: uint32(a.seq), Source: a.from.String()}
	if a.state != reached {
		r.Error = a.state
		if !p.fail(a.seq) {
			return nil
		}
		return r
	}
	rtt, ok := p.answer(a.seq, a.at)
	if !ok {
		return nil
	}
	r.Bytes, r.HopLimit, r.TimeNs = uint32(a.bytes), uint32(a.hops), uint64(rtt)
	return r
}

// Traceroute implements gnoi.ToolsServer.
func (s *Server) Traceroute(m *gnoi.TracerouteRequest, out grpc.ServerStreamingServer[gnoi.TracerouteReply]) error {
	spec, err := readTrace(m)
	if err != nil {
		return toStatus(err)
	}
	sock, end, err := s.open(out.Context(), spec.from, spec.to, false)
	if err != nil {
		return toStatus(err)
	}
	defer end()
	t := newTracing(spec)
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		t.expire(time.Now())
		for {
			seq, hop, ok := t.due(time.Now())
			if !ok {
				break
			}
			state, err := sock.send(seq, defaultSize, hop)
			if err != nil {
				return toStatus(err)
			}
			if state != "" {
				t.end(seq, time.Now(), "", state)
			}
		}
		for _, r := range t.take() {
			if err := out.Send(r); err != nil {
				return err
			}
		}
		if t.done() {
			return nil
		}
		wait.Reset(time.Until(t.wake()))
		select {
		case <-out.Context().Done():
			return status.FromContextError(out.Context().Err()).Err()
		case a := <-sock.in:
			state := a.state
			if state == transit {
				state = ""
			}
			t.end(a.seq, a.at, a.from.String(), state)
		case <-wait.C:
		}
	}
}

// open takes a place and makes the socket of a tool; end gives both back.
func (s *Server) open(ctx context.Context, from From, to netip.Addr, dontFragment bool) (*socket, func(), error) {
	way, err := s.box.Leave(from, to)
	if err != nil {
		return nil, nil, err
	}
	leave, err := s.begin()
	if err != nil {
		return nil, nil, err
	}
	sock, err := open(ctx, way, to, dontFragment)
	if err != nil {
		leave()
		return nil, nil, err
	}
	return sock, func() {
		sock.close()
		leave()
	}, nil
}
