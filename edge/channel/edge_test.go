package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/inventory"
)

// A renewed certificate is used at the next dial.
func TestRenewal(t *testing.T) {
	b := newBench(t, Config{})
	var cert atomic.Pointer[tls.Certificate]
	cert.Store(b.devices.issue(t, "e-1"))
	e := b.start(func(c *EdgeConfig) { c.TLS = func() *tls.Config { return b.clientTLS(cert.Load()) } })
	<-e.up
	eventually(t, "up", b.seen("e-1", "up"))
	renewed := b.devices.issue(t, "e-1")
	cert.Store(renewed)
	b.CloseDevice("e-1", "renewed")
	eventually(t, "up again", b.seen("e-1", "up", "down", "up"))
	if got, want := b.Sessions()[0].Serial, renewed.Leaf.SerialNumber.Text(16); got != want {
		t.Errorf("serial %s after renewal, want %s", got, want)
	}
}

// An edge must not serve a controller that is not the one of its roots and
// name: then it never comes up.
func TestFalseControllerIsNotServed(t *testing.T) {
	b := newBench(t, Config{})
	cert := b.devices.issue(t, "e-1")
	for name, cfg := range map[string]*tls.Config{
		"foreign roots": {RootCAs: newAuthority(t, "foreign").pool(), Certificates: []tls.Certificate{*cert}},
		"other name":    {RootCAs: b.hub.pool(), Certificates: []tls.Certificate{*cert}, ServerName: "other.test"},
	} {
		t.Run(name, func(t *testing.T) {
			e := b.start(func(c *EdgeConfig) {
				c.TLS = func() *tls.Config { return cfg }
				if cfg.ServerName != "" {
					c.ServerName = ""
				}
			})
			<-e.conns
			<-e.conns // the second dial: the first has failed
			e.stop()
			select {
			case <-e.up:
				t.Error("the edge served it")
			default:
			}
		})
	}
	if !b.seen("e-1")() {
		t.Errorf("events %v", b.events["e-1"])
	}
}

func TestAuthorize(t *testing.T) {
	b := newBench(t, Config{})
	hub := b.hub.issue(t, hubName)
	state := func(cert *tls.Certificate, verified bool) AuthInfo {
		i := AuthInfo{TLS: tls.ConnectionState{}}
		i.TLS.PeerCertificates = append(i.TLS.PeerCertificates, cert.Leaf)
		if verified {
			i.TLS.VerifiedChains = append(i.TLS.VerifiedChains, i.TLS.PeerCertificates)
		}
		return i
	}
	cfg := EdgeConfig{ServerName: hubName}
	for name, tt := range map[string]struct {
		ctx  context.Context
		want codes.Code
	}{
		"controller":      {peer.NewContext(t.Context(), &peer.Peer{AuthInfo: state(hub, true)}), codes.OK},
		"not verified":    {peer.NewContext(t.Context(), &peer.Peer{AuthInfo: state(hub, false)}), codes.PermissionDenied},
		"a device":        {peer.NewContext(t.Context(), &peer.Peer{AuthInfo: state(b.devices.issue(t, "e-2"), true)}), codes.PermissionDenied},
		"plain transport": {peer.NewContext(t.Context(), &peer.Peer{AuthInfo: insecureInfo(t)}), codes.PermissionDenied},
		"no transport":    {t.Context(), codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			if got := status.Code(cfg.authorize(tt.ctx)); got != tt.want {
				t.Errorf("authorize() = %s, want %s", got, tt.want)
			}
		})
	}
}

func insecureInfo(t *testing.T) interface{ AuthType() string } {
	_, info, err := insecure.NewCredentials().ServerHandshake(nil)
	must(t, err)
	return info
}

// The pauses grow to their bound, are random, and a hopeless dial is no storm.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Serve(ctx, EdgeConfig{
				Dial:     func(context.Context) (net.Conn, error) { dials++; return nil, errors.New("no route to host") },
				TLS:      func() *tls.Config { return &tls.Config{} },
				Register: func(*grpc.Server) {},
				Log:      slog.New(slog.DiscardHandler),
			})
		}()
		time.Sleep(time.Hour)
		cancel()
		must(t, <-done)
		if dials < 60 || dials > 300 { // about 1 in 30 s on average
			t.Errorf("%d dials in an hour, want about 120", dials)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	if err := Serve(t.Context(), EdgeConfig{}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("Serve() = %v, want ErrInvalid", err)
	}
	if _, err := NewServer(Deps{}, Config{}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("NewServer() = %v, want ErrInvalid", err)
	}
	_, err := NewServer(Deps{
		TLS: &tls.Config{}, Log: slog.New(slog.DiscardHandler),
		Identify: func(tls.ConnectionState) (inventory.DeviceID, error) { return "", nil },
	}, Config{})
	if !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("NewServer() that verifies nobody = %v, want ErrInvalid", err)
	}
}

// A device without a certificate keeps trying: it may be enrolled meanwhile.
func TestNoCertificateYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		asked := 0
		done := make(chan error, 1)
		go func() {
			done <- Serve(ctx, EdgeConfig{
				Dial: func(context.Context) (net.Conn, error) {
					t.Error("dialled without a certificate")
					return nil, net.ErrClosed
				},
				TLS:      func() *tls.Config { asked++; return nil },
				Register: func(*grpc.Server) {},
				Log:      slog.New(slog.DiscardHandler),
			})
		}()
		time.Sleep(time.Minute)
		cancel()
		must(t, <-done)
		if asked < 3 {
			t.Errorf("asked %d times for a certificate in a minute", asked)
		}
	})
}
