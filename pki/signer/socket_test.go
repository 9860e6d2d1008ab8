package signer

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// The errors keep their meaning over the socket, and a signer that is away is
// ErrUnavailable, not a hang and not a certificate.
func TestSocket(t *testing.T) {
	s, _ := created(t)
	path := filepath.Join(t.TempDir(), "s.sock")
	log := slog.New(slog.DiscardHandler)
	c := NewClient(path)
	defer c.Close()
	if _, err := c.State(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Listen(ctx, path, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, s, log) }()
	st, err := c.Await(ctx)
	if err != nil || len(st.Issuers) != 3 || !st.RootKey {
		t.Fatalf("%+v, %v", st, err)
	}
	if _, err := Listen(ctx, path, nil, log); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("a second signer on one socket: %v", err)
	}
	id := key(t, s, Devices)
	csr := request(t, x509.CertificateRequest{URIs: uris(t, "spiffe://"+domain+"/device/e-1")}, nil)
	good := Order{KeyID: id, Kind: DeviceLeaf, CSR: csr, NotAfter: time.Now().Add(time.Hour)}
	if der, err := c.Issue(ctx, good); err != nil || len(der) == 0 {
		t.Fatal(err)
	}
	bad := good
	bad.Kind = ServerLeaf
	if _, err := c.Issue(ctx, bad); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a wrong template: %v", err)
	}
	if _, err := c.Change(ctx, Change{Action: Retire, Issuer: Devices, Generation: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Issue(ctx, good); !errors.Is(err, ErrRetired) {
		t.Errorf("a retired issuer: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := c.Issue(t.Context(), good); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the signer is away: %v", err)
	}
}
