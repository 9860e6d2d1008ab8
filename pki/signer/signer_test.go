package signer

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

const domain = "wardnet.hcmc"

func open(t testing.TB, dir string, cfg Config) *Service {
	t.Helper()
	s, err := Open(dir, cfg, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func created(t testing.TB) (*Service, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := Create(dir, domain, time.Now()); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, Config{Names: []string{"hub.example", "192.0.2.7"}}), dir
}

// key gives the key id of an issuer's newest generation.
func key(t testing.TB, s *Service, i Issuer) string {
	t.Helper()
	st, err := s.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := ""
	for _, info := range st.Issuers {
		if info.Issuer == i {
			id = info.KeyID
		}
	}
	return id
}

func request(t testing.TB, q x509.CertificateRequest, k crypto.Signer) []byte {
	t.Helper()
	if k == nil {
		var err error
		if k, err = enrol.NewKey(); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &q, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func uris(t testing.TB, list ...string) (out []*url.URL) {
	t.Helper()
	for _, s := range list {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, u)
	}
	return out
}

func public(t testing.TB) []byte {
	t.Helper()
	k, err := enrol.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Every template takes what it is for and refuses everything next to it.
func TestTemplates(t *testing.T) {
	s, _ := created(t)
	devices, services, hub := key(t, s, Devices), key(t, s, Services), key(t, s, Hub)
	const device, service = "spiffe://" + domain + "/device/e-1", "spiffe://" + domain + "/service/pep"
	in := func(d time.Duration) time.Time { return time.Now().Add(d) }
	week, deviceCSR := in(7*24*time.Hour), request(t, x509.CertificateRequest{URIs: uris(t, device)}, nil)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // too short on purpose
	if err != nil {
		t.Skipf("this Go makes no 1024-bit RSA key: %v", err)
	}
	broken := bytes.Clone(deviceCSR)
	broken[len(broken)-1] ^= 1
	hubCSR := request(t, x509.CertificateRequest{DNSNames: []string{"hub.example"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.7")}}, nil)
	for name, tt := range map[string]struct {
		order Order
		want  string // of the error; "" means signed
	}{
		"device":                    {Order{KeyID: devices, Kind: DeviceLeaf, CSR: deviceCSR, NotAfter: week}, ""},
		"device, 8 days":            {Order{KeyID: devices, Kind: DeviceLeaf, CSR: deviceCSR, NotAfter: in(8 * 24 * time.Hour)}, "not within"},
		"device, ended":             {Order{KeyID: devices, Kind: DeviceLeaf, CSR: deviceCSR, NotAfter: in(-time.Minute)}, "not within"},
		"device, broken signature":  {Order{KeyID: devices, Kind: DeviceLeaf, CSR: broken, NotAfter: week}, "not signed by its own key"},
		"device, key only":          {Order{KeyID: devices, Kind: DeviceLeaf, PublicKey: public(t), NotAfter: week}, "needs a CSR"},
		"device, other subject":     {Order{KeyID: devices, Kind: DeviceLeaf, CSR: deviceCSR, Subject: "e-2", NotAfter: week}, "is not the device"},
		"device, other name":        {Order{KeyID: devices, Kind: DeviceLeaf, CSR: deviceCSR, URIs: []string{service}, NotAfter: week}, "something else than the CSR"},
		"device, DNS name too":      {Order{KeyID: devices, Kind: DeviceLeaf, CSR: request(t, x509.CertificateRequest{URIs: uris(t, device), DNSNames: []string{"x"}}, nil), NotAfter: week}, "exactly one name"},
		"device, foreign domain":    {Order{KeyID: devices, Kind: DeviceLeaf, CSR: request(t, x509.CertificateRequest{URIs: uris(t, "spiffe://other/device/e-1")}, nil), NotAfter: week}, "is not a device id"},
		"device, P-384":             {Order{KeyID: devices, Kind: DeviceLeaf, CSR: request(t, x509.CertificateRequest{URIs: uris(t, device)}, p384), NotAfter: week}, "P-256"},
		"device of services":        {Order{KeyID: services, Kind: DeviceLeaf, CSR: deviceCSR, NotAfter: week}, "signs no"},
		"device of hub":             {Order{KeyID: hub, Kind: DeviceLeaf, CSR: deviceCSR, NotAfter: week}, "signs no"},
		"no template":               {Order{KeyID: devices, Kind: "ca", CSR: deviceCSR, NotAfter: week}, "signs no"},
		"no issuer":                 {Order{KeyID: "ff", Kind: DeviceLeaf, CSR: deviceCSR, NotAfter: week}, "no issuer key"},
		"foreign CRL address":       {Order{KeyID: devices, Kind: DeviceLeaf, CSR: deviceCSR, NotAfter: week, CRLURL: "http://evil.example/x.crl"}, "is not an http URL"},
		"service by SPIFFE id":      {Order{KeyID: services, Kind: ServiceLeaf, PublicKey: public(t), URIs: []string{service}, NotAfter: week}, ""},
		"service by DNS name":       {Order{KeyID: services, Kind: ServiceLeaf, PublicKey: public(t), DNSNames: []string{"app.example", "*.app.example"}, NotAfter: in(90 * 24 * time.Hour)}, ""},
		"service as a device":       {Order{KeyID: services, Kind: ServiceLeaf, PublicKey: public(t), URIs: []string{device}, NotAfter: week}, "is not the SPIFFE id of a service"},
		"service as the controller": {Order{KeyID: services, Kind: ServiceLeaf, PublicKey: public(t), DNSNames: []string{"Hub.example"}, NotAfter: week}, "controller's own"},
		"service as its address":    {Order{KeyID: services, Kind: ServiceLeaf, PublicKey: public(t), IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, NotAfter: week}, "controller's own"},
		"service, no name":          {Order{KeyID: services, Kind: ServiceLeaf, PublicKey: public(t), NotAfter: week}, "needs a name"},
		"service, other CSR":        {Order{KeyID: services, Kind: ServiceLeaf, CSR: request(t, x509.CertificateRequest{DNSNames: []string{"a.example"}}, nil), DNSNames: []string{"b.example"}, NotAfter: week}, "the CSR"},
		"service, weak key":         {Order{KeyID: services, Kind: ServiceLeaf, CSR: request(t, x509.CertificateRequest{DNSNames: []string{"a.example"}}, short), DNSNames: []string{"a.example"}, NotAfter: week}, "2048"},
		"service, a year":           {Order{KeyID: services, Kind: ServiceLeaf, PublicKey: public(t), URIs: []string{service}, NotAfter: in(365 * 24 * time.Hour)}, "not within"},
		"controller":                {Order{KeyID: hub, Kind: ServerLeaf, CSR: hubCSR, DNSNames: []string{"hub.example"}, IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, NotAfter: week}, ""},
		"controller, other name":    {Order{KeyID: hub, Kind: ServerLeaf, CSR: request(t, x509.CertificateRequest{DNSNames: []string{"bank.example"}}, nil), DNSNames: []string{"bank.example"}, NotAfter: week}, "not a configured name"},
		"OCSP":                      {Order{KeyID: devices, Kind: OCSPLeaf, PublicKey: public(t), NotAfter: in(time.Hour)}, ""},
		"OCSP with a name":          {Order{KeyID: devices, Kind: OCSPLeaf, PublicKey: public(t), DNSNames: []string{"x"}, NotAfter: in(time.Hour)}, "has no names"},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := s.Issue(t.Context(), tt.order)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("Issue() = %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if c.IsCA || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
				t.Error("it may certify others")
			}
		})
	}
}

// Whatever is ordered, no device certificate says anything else than one device
// of this domain, for a client, for at most a week, and none is a CA's.
func TestDeviceTemplateProperty(t *testing.T) {
	s, _ := created(t)
	devices := key(t, s, Devices)
	k, err := enrol.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom([]string{
			"spiffe://" + domain + "/device/e-1", "spiffe://" + domain + "/device/", "spiffe://" + domain + "/device/a/b", "spiffe://" + domain + "/service/x",
			"spiffe://x/device/e-1", "https://" + domain + "/device/e-1", "spiffe://" + domain + "/device/e-1?x=1",
		}).Draw(rt, "uri")
		q := x509.CertificateRequest{URIs: uris(t, name), DNSNames: rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,5}`), 0, 1).Draw(rt, "dns")}
		if rapid.Bool().Draw(rt, "twice") {
			q.URIs = append(q.URIs, q.URIs[0])
		}
		o := Order{
			KeyID: devices, Kind: rapid.SampledFrom([]Kind{DeviceLeaf, ServiceLeaf, ServerLeaf, OCSPLeaf, ""}).Draw(rt, "kind"), CSR: request(t, q, k),
			Subject:  rapid.SampledFrom([]string{"", "e-1", "root"}).Draw(rt, "subject"),
			NotAfter: time.Now().Add(time.Duration(rapid.Int64Range(-1000, 2_000_000).Draw(rt, "seconds")) * time.Second),
		}
		der, err := s.Issue(context.Background(), o)
		if err != nil {
			return
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			rt.Fatal(err)
		}
		if c.IsCA || time.Until(c.NotAfter) > 7*24*time.Hour+2*time.Second || len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses) > 0 {
			rt.Fatalf("signed %+v", c.Subject)
		}
		if o.Kind == OCSPLeaf {
			return
		}
		if len(c.URIs) != 1 || c.URIs[0].String() != "spiffe://"+domain+"/device/e-1" || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
			rt.Fatalf("signed %v, %v", c.URIs, c.ExtKeyUsage)
		}
	})
}

func TestCRLNumbersRiseForEver(t *testing.T) {
	s, dir := created(t)
	id := key(t, s, Devices)
	crl := func(s *Service, n uint64) error {
		_, err := s.CRL(t.Context(), CRLOrder{KeyID: id, Number: n, Life: time.Hour, Entries: []CRLEntry{{Serial: "a1", At: time.Now()}}})
		return err
	}
	if err := crl(s, 7); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{7, 3} {
		if err := crl(s, n); !errors.Is(err, ErrNumber) {
			t.Errorf("number %d after 7: %v", n, err)
		}
	}
	again := open(t, dir, Config{})
	if err := crl(again, 7); !errors.Is(err, ErrNumber) {
		t.Errorf("number 7 after a restart: %v", err)
	}
	if err := crl(again, 8); err != nil {
		t.Error(err)
	}
}

// Whatever was handed out is in the journal, also when many ask at once, and a
// line that a power cut left open spoils no other.
func TestJournal(t *testing.T) {
	s, dir := created(t)
	id := key(t, s, Devices)
	csr := request(t, x509.CertificateRequest{URIs: uris(t, "spiffe://"+domain+"/device/e-1")}, nil)
	serials := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				der, err := s.Issue(t.Context(), Order{KeyID: id, Kind: DeviceLeaf, CSR: csr, NotAfter: time.Now().Add(time.Hour), RequestBy: "test"})
				if err != nil {
					t.Error(err)
					return
				}
				c, err := x509.ParseCertificate(der)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				serials[enrol.SerialOf(c)] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s.Close()
	path := filepath.Join(dir, JournalFile)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"at":"20`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	next := open(t, dir, Config{})
	if _, err := next.Issue(t.Context(), Order{KeyID: id, Kind: DeviceLeaf, CSR: csr, NotAfter: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, torn := 0, 0
	for in := bufio.NewScanner(bytes.NewReader(text)); in.Scan(); {
		var e Entry
		if json.Unmarshal(in.Bytes(), &e) != nil {
			torn++
			continue
		}
		n++
		delete(serials, e.Serial)
		if e.What != string(DeviceLeaf) || e.Subject != "e-1" || e.Issuer != Devices || e.KeyID != id || e.Key == "" {
			t.Errorf("entry %+v", e)
		}
	}
	if n != 41 || torn != 1 || len(serials) > 0 {
		t.Errorf("%d entries, %d torn, %d certificates missing", n, torn, len(serials))
	}
}

func TestSSH(t *testing.T) {
	s, _ := created(t)
	signer, err := ssh.NewSignerFromSigner(must(enrol.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	wire := signer.PublicKey().Marshal()
	for name, tt := range map[string]struct {
		order SSHOrder
		want  string
	}{
		"user":            {SSHOrder{Key: wire, KeyID: "x", Principals: []string{"wardnet"}, Life: 15 * time.Minute}, ""},
		"user, an hour":   {SSHOrder{Key: wire, KeyID: "x", Principals: []string{"wardnet"}, Life: time.Hour}, "not within"},
		"root":            {SSHOrder{Key: wire, KeyID: "x", Principals: []string{"root"}, Life: time.Minute}, "cannot be a principal"},
		"nobody":          {SSHOrder{Key: wire, KeyID: "x", Life: time.Minute}, "principal"},
		"host":            {SSHOrder{Host: true, Key: wire, KeyID: "x", Principals: []string{"d-1"}, Life: 24 * time.Hour}, ""},
		"host pattern":    {SSHOrder{Host: true, Key: wire, KeyID: "x", Principals: []string{"*"}, Life: 24 * time.Hour}, "cannot be a principal"},
		"no key":          {SSHOrder{Key: []byte("x"), KeyID: "x", Principals: []string{"wardnet"}, Life: time.Minute}, "key"},
		"source no range": {SSHOrder{Key: wire, KeyID: "x", Principals: []string{"wardnet"}, Sources: []string{"anywhere"}, Life: time.Minute}, "no prefix"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := s.SSH(t.Context(), tt.order)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, inventory.ErrInvalid) {
					t.Fatalf("SSH() = %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			pub, err := ssh.ParsePublicKey(got)
			if err != nil {
				t.Fatal(err)
			}
			c := pub.(*ssh.Certificate)
			if !tt.order.Host && (len(c.Extensions) != 1 || c.Extensions["permit-pty"] != "") {
				t.Errorf("extensions %v", c.Extensions)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
