package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// revokedDevice opens a channel that claims to be another device, sees it
// registered under its certificate's name alone, and has it revoked.
func (s *siege) revokedDevice(ctx context.Context, p papers) (time.Duration, error) {
	a, b := s.devices[0].ID, s.devices[1].ID
	ch, err := s.channel(ctx, p.device, b)
	if err != nil {
		return 0, err
	}
	defer ch.stop()
	s.attack(ctx, "channel: registration under another name", trace{}, func(ctx context.Context, _ place) error {
		return within(ctx, 10*time.Second, func() error {
			all, err := s.auditor.Devices(ctx)
			if err != nil {
				return err
			}
			var up []inventory.DeviceID
			for _, d := range all {
				if d.Connected {
					up = append(up, d.ID)
				}
			}
			if !slices.Equal(up, []inventory.DeviceID{a}) || ch.asked.Load() == 0 {
				return fmt.Errorf("connected are %v after %d answers that claim to be %s, want %s alone", up, ch.asked.Load(), b, a)
			}
			return nil
		})
	})
	begin := time.Now()
	if _, err := s.security.Revoke(ctx, enrol.SerialOf(p.device.Leaf), "key-compromise: acceptance"); err != nil {
		return 0, err
	}
	select {
	case <-ch.cut:
	case <-time.After(5 * time.Second):
		return 0, errors.New("the channel is still open 5 s after the revocation")
	}
	took := time.Since(begin)
	s.onChannel(ctx, "revoked certificate", p.device, "revoked")
	s.onCA(ctx, "renewal with a revoked certificate", p.device, tlsRefusal("ca", "revoked"), a)
	return took, nil
}

// retiredDevice has an open channel when it is retired in the inventory.
func (s *siege) retiredDevice(ctx context.Context) error {
	d := s.devices[4]
	b, err := s.engineer.Enrol(ctx, d.ID)
	if err != nil {
		return err
	}
	id, err := enrol.Enrol(ctx, enrol.Bundle{
		EnrolURL: b.EnrolURL, Channel: b.Channel, CAURL: b.CAURL, RootPEM: b.RootPEM, Device: d.ID, Serial: d.Serial, Token: b.Tokens[0].Token,
	}, filepath.Join(s.dir, "retired"))
	if err != nil {
		return err
	}
	cert, err := id.TLS().GetClientCertificate(nil)
	if err != nil {
		return err
	}
	ch, err := s.channel(ctx, cert, d.ID)
	if err != nil {
		return err
	}
	defer ch.stop()
	inv, version, err := s.engineer.Inventory(ctx)
	if err != nil {
		return err
	}
	for i := range inv.Devices {
		if inv.Devices[i].ID == d.ID {
			inv.Devices[i].Intended = inventory.Retired
		}
	}
	var doc bytes.Buffer
	if err := inventory.Encode(&doc, inv); err != nil {
		return err
	}
	if _, err := s.engineer.ImportInventory(ctx, doc.Bytes(), version); err != nil {
		return err
	}
	s.attack(ctx, "channel: open session of a retired device", trace{}, func(ctx context.Context, _ place) error {
		select {
		case <-ch.cut:
			return nil
		case <-time.After(5 * time.Second):
			return errors.New("still open after 5 s")
		}
	})
	s.onChannel(ctx, "retired device", cert, "unknown-device")
	s.onCA(ctx, "renewal of a retired device", cert, tlsRefusal("ca", "unknown-device"), d.ID)
	return nil
}

// silentFlood holds connections that say nothing; a device must get in.
func (s *siege) silentFlood(ctx context.Context, p papers) {
	s.attack(ctx, "channel: 300 silent connections", trace{}, func(ctx context.Context, from place) error {
		for range 300 {
			c, err := from.DialContext(ctx, "tcp", s.serving.Devices)
			if err != nil {
				return err
			}
			defer c.Close()
		}
		begin := time.Now()
		ch, err := s.channel(ctx, p.device, s.devices[0].ID)
		if err != nil {
			return err
		}
		defer ch.stop()
		select {
		case <-ch.spoken:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("a device was not admitted within %s", time.Since(begin).Round(time.Second))
		}
	})
}

// channel connects as a device that claims to be another one.
func (s *siege) channel(ctx context.Context, c *tls.Certificate, claim inventory.DeviceID) (*impostor, error) {
	cfg := s.show(c, channelProtocol)
	cfg.ServerName, cfg.InsecureSkipVerify = string(claim), true //nolint:gosec // the claim is in SNI too; the peer is the controller we started
	from := s.elsewhere()
	conn, err := (&tls.Dialer{NetDialer: &from.Dialer, Config: cfg}).DialContext(ctx, "tcp", s.serving.Devices)
	if err != nil {
		return nil, err
	}
	return newImpostor(conn, claim), nil
}

// impostor is an edge's end of a channel whose answers claim another name.
type impostor struct {
	net.Conn
	asked atomic.Int32
	srv   *grpc.Server

	heard, ended sync.Once
	spoken       chan struct{} // closed when the controller speaks
	cut          chan struct{} // closed when it has ended the connection
}

func newImpostor(c net.Conn, claim inventory.DeviceID) *impostor {
	i := &impostor{Conn: c, spoken: make(chan struct{}), cut: make(chan struct{})}
	i.srv = grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
		md := metadata.Pairs("device", string(claim), "target", string(claim), "x-spiffe-id", "spiffe://wardnet.hcmc/device/"+string(claim))
		ss.SetTrailer(md)
		if err := ss.SendHeader(md); err != nil {
			return err
		}
		i.asked.Add(1)
		return status.Error(codes.Unimplemented, "I am "+string(claim))
	}))
	l := &oneConn{conn: make(chan net.Conn, 1), done: make(chan struct{}), addr: c.LocalAddr()}
	l.conn <- i
	go i.srv.Serve(l) //nolint:errcheck // ends with the connection
	return i
}

func (i *impostor) stop() { i.srv.Stop() }

func (i *impostor) Read(b []byte) (int, error) {
	n, err := i.Conn.Read(b)
	if n > 0 {
		i.heard.Do(func() { close(i.spoken) })
	}
	if err != nil {
		i.ended.Do(func() { close(i.cut) })
	}
	return n, err
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn chan net.Conn
	done chan struct{}
	addr net.Addr
	once sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, io.EOF
	}
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return l.addr }
