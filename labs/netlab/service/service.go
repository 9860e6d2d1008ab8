// Package service is what listens in a lab: one process with a socket in every
// namespace that serves an application, answers on the internet, or stands in
// for a host of a segment.
package service

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// Zone is the domain that the lab's name servers are asked for (RFC 6761).
const Zone = "wardnet.test."

// maxEcho bounds one datagram, in bytes.
const maxEcho = 9216

// Run opens every socket, calls ready, and serves until ctx ends.
func Run(ctx context.Context, all []netlab.Service, log *slog.Logger, ready func() error) error {
	g, ctx := errgroup.WithContext(ctx)
	byNS := map[string][]netlab.Service{}
	for _, s := range all {
		byNS[s.NS] = append(byNS[s.NS], s)
	}
	names := namesOf(all)
	var open []func() error
	var closers []func() error
	shut := func() {
		for _, c := range closers {
			_ = c() // ends its server
		}
	}
	for ns, list := range byNS {
		err := inside(ns, func() error {
			for _, s := range list {
				serve, stop, err := listen(s, names, log)
				if err != nil {
					return fmt.Errorf("%s on %s %s: %w", s.Name, s.Proto, s.Addr, err)
				}
				open, closers = append(open, serve), append(closers, stop)
			}
			return nil
		})
		if err != nil {
			shut()
			return fmt.Errorf("listen in %s: %w", ns, err)
		}
	}
	for _, serve := range open {
		g.Go(func() error {
			err := serve()
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		shut()
		return nil
	})
	if err := ready(); err != nil {
		return err
	}
	return g.Wait()
}

// inside calls fn in a namespace; "" is this process's own, as in a container.
func inside(ns string, fn func() error) error {
	if ns == "" {
		return fn()
	}
	return netns.Do(ns, fn)
}

// listen opens one socket in the namespace of the calling thread.
func listen(s netlab.Service, names map[string][]netip.Addr, log *slog.Logger) (serve, stop func() error, err error) {
	addr := s.Addr.String()
	if s.Addr.Addr().IsUnspecified() {
		addr = fmt.Sprintf(":%d", s.Addr.Port())
	}
	if s.Proto == inventory.UDP {
		pc, err := (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", addr)
		if err != nil {
			return nil, nil, err
		}
		switch s.Kind {
		case netlab.ServiceDNS:
			d := &dns.Server{PacketConn: pc, Handler: answers(names)}
			return d.ActivateAndServe, pc.Close, nil
		case netlab.ServiceNTP:
			return func() error { return datagrams(pc, ntp) }, pc.Close, nil
		}
		return func() error { return datagrams(pc, echo(s.Name)) }, pc.Close, nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	if s.Kind == netlab.ServiceDNS {
		d := &dns.Server{Listener: l, Handler: answers(names)}
		return d.ActivateAndServe, l.Close, nil
	}
	h := &http.Server{Handler: page(s.Name), ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	return func() error { return h.Serve(l) }, h.Close, nil
}

// page names the service and says where the question came from.
func page(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Wardnet-Service", name)
		fmt.Fprintf(w, "%s\nfrom %s\n", name, r.RemoteAddr)
	})
}

// datagrams answers each one; an empty answer is not sent.
func datagrams(pc net.PacketConn, answer func([]byte) []byte) error {
	buf := make([]byte, maxEcho)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			continue // an ICMP error of an earlier answer
		}
		if out := answer(buf[:n]); len(out) > 0 {
			_, _ = pc.WriteTo(out, from) // lost answers are the asker's to notice
		}
	}
}

func echo(name string) func([]byte) []byte {
	return func(in []byte) []byte { return append(append(append([]byte{}, in...), '\n'), name...) }
}

// ntpEpoch is 1970-01-01 in seconds of NTP's era 0 (RFC 5905 §6).
const ntpEpoch = 2208988800

// ntp answers a client's request as a stratum 1 server (RFC 5905 §7.3).
func ntp(in []byte) []byte {
	if len(in) < 48 || in[0]&7 != 3 {
		return nil
	}
	out := make([]byte, 48)
	out[0], out[1], out[2], out[3] = in[0]&0x38|4, 1, in[2], 0xec // mode server, 2^-20 s
	copy(out[12:], "LOCL")
	now := time.Now()
	stamp := uint64(now.Unix()+ntpEpoch)<<32 | uint64(now.Nanosecond())<<32/1e9
	binary.BigEndian.PutUint64(out[16:], stamp) // reference
	copy(out[24:32], in[40:48])                 // originate: the client's transmit
	binary.BigEndian.PutUint64(out[32:], stamp) // receive
	binary.BigEndian.PutUint64(out[40:], stamp) // transmit
	return out
}

// namesOf gives every application its name in [Zone].
func namesOf(all []netlab.Service) map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	seen := map[netip.Addr]bool{}
	for _, s := range all {
		if a := s.Addr.Addr(); !a.IsUnspecified() && !seen[a] {
			seen[a] = true
			name := strings.ToLower(s.Name) + "." + Zone
			out[name] = append(out[name], a)
		}
	}
	return out
}

// answers serves the zone with its applications' addresses.
func answers(names map[string][]netip.Addr) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		m.Authoritative = true
		if len(r.Question) != 1 {
			m.Rcode = dns.RcodeFormatError
			_ = w.WriteMsg(m)
			return
		}
		q := r.Question[0]
		addrs, known := names[strings.ToLower(q.Name)]
		if !dns.IsSubDomain(Zone, strings.ToLower(q.Name)) {
			m.Rcode = dns.RcodeRefused
		} else if !known && !strings.EqualFold(q.Name, Zone) {
			m.Rcode = dns.RcodeNameError
		}
		for _, a := range addrs {
			h := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: 60}
			switch {
			case a.Is4() && q.Qtype == dns.TypeA:
				h.Rrtype = dns.TypeA
				m.Answer = append(m.Answer, &dns.A{Hdr: h, A: a.AsSlice()})
			case a.Is6() && q.Qtype == dns.TypeAAAA:
				h.Rrtype = dns.TypeAAAA
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: a.AsSlice()})
			}
		}
		_ = w.WriteMsg(m)
	})
}
