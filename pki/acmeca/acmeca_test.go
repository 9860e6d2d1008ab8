package acmeca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

// once is a [Ledger] in memory.
type once struct {
	Ledger
	mu   sync.Mutex
	used map[string]time.Time
}

func (o *once) NonceKey(_ context.Context, proposed []byte) ([]byte, error) { return proposed, nil }

func (o *once) UseNonce(_ context.Context, n string, end time.Time) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, was := o.used[n]
	o.used[n] = end
	return !was, nil
}

// A nonce counts once, for an hour, and only here; unused ones are kept nowhere.
func TestNonces(t *testing.T) {
	ledger := &once{used: map[string]time.Time{}}
	n, err := openNonces(t.Context(), ledger)
	if err != nil {
		t.Fatal(err)
	}
	other, err := openNonces(t.Context(), ledger)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	nonce := string(n.make(now))
	if len(ledger.used) != 0 {
		t.Error("making a nonce left a row")
	}
	for what, bad := range map[string]string{
		"another server's": string(other.make(now)), "an old one": string(n.make(now.Add(-2 * time.Hour))), "one of the future": string(n.make(now.Add(time.Hour))),
		"nothing": "", "half": nonce[:20], "padded": nonce + "=",
	} {
		if err := n.use(t.Context(), bad, now); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if len(ledger.used) != 0 {
		t.Error("a refused nonce left a row")
	}
	if err := n.use(t.Context(), nonce, now); err != nil {
		t.Error(err)
	}
	if err := n.use(t.Context(), nonce, now); err == nil {
		t.Error("a nonce was taken twice")
	}
	if end := ledger.used[nonce]; end.Before(now.Add(nonceLife)) {
		t.Errorf("kept until %s, it could be presented until %s", end, now.Add(nonceLife))
	}
}

func FuzzNonce(f *testing.F) {
	n, err := openNonces(f.Context(), &once{used: map[string]time.Time{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(n.make(time.Now()))[:30])
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if at, ok := n.made(text); ok {
			t.Errorf("%q passes as made at %s", text, at)
		}
	})
}

// What is nobody's on the Internet is not probed, however it is written, unless
// the operator named it.
func TestProbesStayOutside(t *testing.T) {
	ours := []netip.Prefix{netip.MustParsePrefix("10.64.0.0/10")}
	for addr, want := range map[string]bool{
		"203.0.114.1": true, "8.8.8.8": true, "2a00::1": true, "10.64.1.2": true, "::ffff:8.8.8.8": true, "::ffff:10.64.1.2": true,
		"10.0.0.1": false, "127.0.0.1": false, "::1": false, "::": false, "0.0.0.0": false, "169.254.169.254": false, "::ffff:169.254.169.254": false,
		"192.168.1.1": false, "172.16.0.1": false, "100.64.0.1": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "224.0.0.1": false,
		"255.255.255.255": false, "64:ff9b::a00:1": false, "2002:a00:1::": false, "2001:db8::1": false, "fe80::1%eth0": false,
	} {
		if got := mayProbe(netip.MustParseAddr(addr), ours); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")
		a := netip.AddrFrom4([4]byte(b))
		if mayProbe(a, nil) && (a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified()) {
			t.Fatalf("%s is probed", a)
		}
		if mayProbe(a, nil) != mayProbe(netip.AddrFrom16(a.As16()), nil) {
			t.Fatalf("%s and its IPv6 form differ", a)
		}
	})
}

// Whatever the certificate, the window is in its life, or in the past when it is
// revoked, and never empty (RFC 9773 §4.2).
func TestAdvice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := time.Unix(rapid.Int64Range(1e9, 2e9).Draw(t, "from"), 0)
		life := time.Duration(rapid.Int64Range(300, 90*86400).Draw(t, "life")) * time.Second
		now := from.Add(time.Duration(rapid.Float64Range(0, 1).Draw(t, "at") * float64(life)))
		revoked, rotated := rapid.Bool().Draw(t, "revoked"), rapid.Bool().Draw(t, "rotated")
		w, advice := advise(from, from.Add(life), now, rapid.String().Draw(t, "serial"), revoked, rotated)
		if !w.Start.Before(w.End) || w.End.After(from.Add(life)) {
			t.Fatalf("%s: %s to %s of %s to %s", advice, w.Start, w.End, from, from.Add(life))
		}
		if revoked && !w.End.Before(now) {
			t.Fatalf("revoked: until %s at %s", w.End, now)
		}
		if !revoked && rotated && w.Start.After(from.Add(life*2/3)) {
			t.Fatalf("rotated: from %s, the regular begin is %s", w.Start, from.Add(life*2/3))
		}
	})
}

// An identifier is read as it was written (RFC 9773 §4.1); the example is the
// RFC's.
func TestCertID(t *testing.T) {
	key, serial, err := ParseCertID("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
	if err != nil || serial != "87654321" || fmt.Sprintf("%x", key) != "69885b6b87464041e1b37b847ba0ae2cde01c8d4" {
		t.Errorf("%x %s %v", key, serial, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := &x509.Certificate{
			AuthorityKeyId: rapid.SliceOfN(rapid.Byte(), 1, 32).Draw(t, "issuer"),
			SerialNumber:   new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "serial")),
		}
		key, serial, err := ParseCertID(CertID(c))
		if err != nil || !slices.Equal(key, c.AuthorityKeyId) || serial != c.SerialNumber.Text(16) {
			t.Fatalf("%s: %x %s %v", CertID(c), key, serial, err)
		}
	})
}

func FuzzCertID(f *testing.F) {
	f.Add("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
	f.Add(".")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, id string) {
		key, serial, err := ParseCertID(id)
		if err != nil {
			if !errors.Is(err, inventory.ErrInvalid) {
				t.Error(err)
			}
			return
		}
		n, ok := new(big.Int).SetString(serial, 16)
		if len(key) == 0 || !ok || n.Sign() < 0 || serial != strings.ToLower(serial) {
			t.Errorf("%q gives %x %q", id, key, serial)
		}
	})
}

func FuzzReplaces(f *testing.F) {
	f.Add([]byte(`{"protected":"e30","payload":"eyJyZXBsYWNlcyI6IngueSJ9","signature":"AA"}`))
	f.Add([]byte(`{"payload":1}`))
	f.Fuzz(func(_ *testing.T, body []byte) { replacesOf(body) })
}

func TestReplaces(t *testing.T) {
	if got := replacesOf([]byte(`{"protected":"e30","payload":"eyJyZXBsYWNlcyI6IngueSJ9","signature":"AA"}`)); got != "x.y" {
		t.Errorf("got %q", got)
	}
}

func TestConfig(t *testing.T) {
	good := Config{Allow: []string{"hcmc.example", "*.hcmc.example", "10.64.0.0/10"}, Resolver: "127.0.0.1:53"}.WithDefaults()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	if n := good.Names(); len(n.DNSDomains) != 2 || len(n.IPRanges) != 1 {
		t.Errorf("names %+v", n)
	}
	bad := Config{Allow: []string{"", "*", "*.", "*.*.x", "Upper.example", "a b", "x.", "1.2.3.4/99"}, Life: time.Second, HTTPPort: 70000, Resolver: "x"}
	err := bad.Validate()
	if !errors.Is(err, inventory.ErrInvalid) || strings.Count(err.Error(), "\n") != 10 {
		t.Errorf("all faults at once, want 11: %v", err)
	}
}

func TestBrokenChain(t *testing.T) {
	for _, text := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := parseChain(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
