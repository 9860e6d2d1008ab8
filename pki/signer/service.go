package signer

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.step.sm/crypto/sshutil"
	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// Config bounds what a [Service] signs.
type Config struct {
	// Domain is the trust domain the CA must be for; empty: the root's.
	Domain string
	// DeviceLife is the longest life of a device certificate; default 7 days.
	DeviceLife time.Duration
	// ServerLife is the longest life of the controller's own; default 30 days.
	ServerLife time.Duration
	// Names are the DNS names and addresses of the controller: the only ones in
	// its certificates, and in no others. Empty: it gets none.
	Names []string
}

// Service holds the keys. It is safe for concurrent use.
type Service struct {
	dir     string
	rules   rules
	root    *x509.Certificate
	rootKey *ecdsa.PrivateKey // nil: on another machine
	sshUser ssh.Signer
	sshHost ssh.Signer
	journal *journal

	mu      sync.RWMutex // guards what follows
	held    map[string]*generation
	numbers map[string]uint64 // highest CRL number signed, by key id
	rootCRL []byte
}

// generation is an issuer's key with what belongs to it.
type generation struct {
	info Info
	cert *x509.Certificate // nil while the root has not signed
	key  *ecdsa.PrivateKey
}

const (
	numbersFile = "crl-numbers.json"
	rootCRLFile = "root.crl"
)

// Open loads and checks the CA in dir, which [Create] or [Prepare] made.
func Open(dir string, cfg Config, now time.Time) (*Service, error) {
	s := &Service{dir: dir, held: map[string]*generation{}, numbers: map[string]uint64{}}
	if err := s.load(cfg, now); err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	var err error
	if s.journal, err = openJournal(dir); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the journal.
func (s *Service) Close() error { return s.journal.close() }

func (s *Service) load(cfg Config, now time.Time) (err error) {
	if s.root, err = loadCert(s.dir, string(Root)); err != nil {
		return err
	}
	if err := checkRoot(s.root); err != nil {
		return err
	}
	s.rules = rules{
		domain: s.root.URIs[0].Host, names: cfg.Names,
		deviceLife: cmp.Or(cfg.DeviceLife, 7*24*time.Hour), serverLife: cmp.Or(cfg.ServerLife, 30*24*time.Hour),
	}
	var errs []error
	if cfg.Domain != "" && cfg.Domain != s.rules.domain {
		errs = append(errs, fmt.Errorf("%w: the CA in %s is not for trust domain %q; set pki.trust_domain to the CA's", inventory.ErrInvalid, s.dir, cfg.Domain))
	}
	if HasKey(s.dir, string(Root)) {
		if s.rootKey, err = LoadKey(s.dir, string(Root)); err != nil {
			errs = append(errs, err)
		} else if !s.rootKey.PublicKey.Equal(s.root.PublicKey) {
			errs = append(errs, fmt.Errorf("%w: root.key does not belong to root.crt in %s", inventory.ErrInvalid, s.dir))
		}
	}
	errs = append(errs, s.loadIssuers(now), s.loadSSH(), s.loadNumbers())
	if s.rootCRL, err = os.ReadFile(filepath.Join(s.dir, rootCRLFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Service) loadIssuers(now time.Time) error {
	var errs []error
	for _, i := range Issuers {
		for n := 1; ; n++ {
			name := FileName(i, n)
			_, err := os.Stat(filepath.Join(s.dir, name+".crt"))
			if n > 1 && err != nil && !HasKey(s.dir, name) {
				break // the first one must be there
			}
			g, err := s.loadGeneration(i, n, now)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			s.held[g.info.KeyID] = g
		}
	}
	return errors.Join(errs...)
}

// loadGeneration reads one generation; a key without certificate waits for the
// root's signature.
func (s *Service) loadGeneration(i Issuer, n int, now time.Time) (*generation, error) {
	name := FileName(i, n)
	key, err := LoadKey(s.dir, name)
	if err != nil {
		return nil, err
	}
	g := &generation{key: key, info: Info{Issuer: i, Generation: n}}
	if g.info.KeyID, err = enrol.KeyID(&key.PublicKey); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(s.dir, name+retiredSuffix)); err == nil {
		g.info.Retired = true
	}
	_, err = os.Stat(filepath.Join(s.dir, name+".crt"))
	if errors.Is(err, fs.ErrNotExist) {
		g.info.CSR, err = issuerCSR(i, key)
		return g, err
	}
	if g.cert, err = loadCert(s.dir, name); err != nil {
		return nil, err
	}
	g.info.Certificate = g.cert.Raw
	if !key.PublicKey.Equal(g.cert.PublicKey) {
		return nil, fmt.Errorf("%w: %s.key does not belong to %s.crt in %s", inventory.ErrInvalid, name, name, s.dir)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.root)
	if _, err := g.cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil && !g.info.Retired {
		return nil, fmt.Errorf("%w: %s CA in %s: %w", inventory.ErrInvalid, name, s.dir, err)
	}
	return g, nil
}

// loadSSH reads the SSH CAs' keys; those that are missing are made, for a
// directory may be older than they.
func (s *Service) loadSSH() error {
	for _, name := range sshNames {
		if !HasKey(s.dir, name) {
			if err := MakeKey(s.dir, name); err != nil {
				return fmt.Errorf("create the %s CA: %w", name, err)
			}
		}
		key, err := LoadKey(s.dir, name)
		if err != nil {
			return fmt.Errorf("load the %s CA: %w", name, err)
		}
		signer, err := ssh.NewSignerFromSigner(key)
		if err != nil {
			return fmt.Errorf("load the %s CA: %w", name, err)
		}
		if name == sshNames[0] {
			s.sshUser = signer
		} else {
			s.sshHost = signer
		}
	}
	return nil
}

func (s *Service) loadNumbers() error {
	text, err := os.ReadFile(filepath.Join(s.dir, numbersFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if err := json.Unmarshal(text, &s.numbers); err != nil {
		return fmt.Errorf("%w: %s in %s is damaged: %w; restore the CA directory from a backup", inventory.ErrInvalid, numbersFile, s.dir, err)
	}
	return nil
}

// State says what is held, generations in order.
func (s *Service) State(context.Context) (State, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := State{
		Root: s.root.Raw, RootKey: s.rootKey != nil, RootCRL: s.rootCRL,
		SSHUser: s.sshUser.PublicKey().Marshal(), SSHHost: s.sshHost.PublicKey().Marshal(),
	}
	for _, g := range s.held {
		st.Issuers = append(st.Issuers, g.info)
	}
	slices.SortFunc(st.Issuers, func(a, b Info) int {
		return cmp.Or(cmp.Compare(slices.Index(Issuers, a.Issuer), slices.Index(Issuers, b.Issuer)), cmp.Compare(a.Generation, b.Generation))
	})
	return st, nil
}

// find gives a generation that has its certificate; one that another process
// has put into the directory meanwhile too.
func (s *Service) find(keyID string) (generation, error) {
	s.mu.RLock()
	g, ok := s.held[keyID]
	s.mu.RUnlock()
	if !ok || g.cert == nil {
		s.mu.Lock()
		err := s.loadIssuers(time.Now())
		g, ok = s.held[keyID]
		s.mu.Unlock()
		if err != nil {
			return generation{}, err
		}
	}
	switch {
	case !ok:
		return generation{}, fmt.Errorf("%w: the signer holds no issuer key %.12q", inventory.ErrNotFound, keyID)
	case g.cert == nil:
		return generation{}, fmt.Errorf("generation %d of the %s issuer is not signed by the root: %w", g.info.Generation, g.info.Issuer, ErrCeremony)
	}
	return *g, nil
}

// Issue signs a leaf and gives it, DER. It is in the journal first.
func (s *Service) Issue(_ context.Context, o Order) ([]byte, error) {
	g, err := s.find(o.KeyID)
	if err != nil {
		return nil, err
	}
	// What was issued can still be revoked and asked about: a retired issuer
	// goes on certifying its OCSP responder.
	if g.info.Retired && o.Kind != OCSPLeaf {
		return nil, fmt.Errorf("generation %d of the %s issuer: %w", g.info.Generation, g.info.Issuer, ErrRetired)
	}
	now := time.Now()
	t, pub, err := s.rules.leaf(o, g.info, g.cert, now)
	if err != nil {
		return nil, err
	}
	if t.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, g.cert, pub, g.key)
	if err != nil {
		return nil, fmt.Errorf("sign a %s certificate: %w", o.Kind, err)
	}
	names := o.names()
	for _, u := range t.URIs {
		names = append(names, u.String())
	}
	slices.Sort(names)
	return der, s.journal.append(Entry{
		At: now.UTC(), What: string(o.Kind), Issuer: g.info.Issuer, Generation: g.info.Generation, KeyID: g.info.KeyID,
		Serial: t.SerialNumber.Text(16), Subject: t.Subject.CommonName, Names: slices.Compact(names), NotAfter: t.NotAfter,
		Key: fingerprint(pub), WireGuard: o.WireGuard, By: o.RequestBy,
	})
}

func fingerprint(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "" // it was certified a moment ago
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// CRL signs a revocation list and gives it, DER. Its number is kept on the disk
// first, so that it never goes back.
func (s *Service) CRL(_ context.Context, o CRLOrder) ([]byte, error) {
	g, err := s.crlIssuer(o.KeyID)
	if err != nil {
		return nil, err
	}
	if o.Life <= 0 || o.Life > maxCRLLife || o.Number == 0 {
		return nil, fmt.Errorf("%w: order of a CRL: life %s is not within %s, or number %d is none", inventory.ErrInvalid, o.Life, maxCRLLife, o.Number)
	}
	if o.URL != "" {
		if err := webURL(o.URL, ".crl"); err != nil {
			return nil, fmt.Errorf("%w: order of a CRL: %w", inventory.ErrInvalid, err)
		}
	}
	if err := s.raise(o.KeyID, o.Number); err != nil {
		return nil, err
	}
	now := time.Now()
	der, err := signCRL(g.cert, g.key, o, now)
	if err != nil {
		return nil, fmt.Errorf("sign the CRL of the %s issuer: %w", g.info.Issuer, err)
	}
	return der, s.journal.append(Entry{
		At: now.UTC(), What: "crl", Issuer: g.info.Issuer, Generation: g.info.Generation, KeyID: o.KeyID,
		Serial: strconv.FormatUint(o.Number, 10), NotAfter: now.Add(o.Life).UTC(),
	})
}

// crlIssuer gives an issuer, or the root where its key is here.
func (s *Service) crlIssuer(keyID string) (generation, error) {
	root, err := enrol.KeyID(s.root.PublicKey)
	if err != nil || keyID != root {
		return s.find(keyID)
	}
	if s.rootKey == nil {
		return generation{}, fmt.Errorf("sign the root's CRL: %w", ErrCeremony)
	}
	return generation{info: Info{Issuer: Root, KeyID: root}, cert: s.root, key: s.rootKey}, nil
}

func (s *Service) raise(keyID string, n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n <= s.numbers[keyID] {
		return fmt.Errorf("CRL number %d after %d: %w", n, s.numbers[keyID], ErrNumber)
	}
	old := s.numbers[keyID]
	s.numbers[keyID] = n
	text, err := json.Marshal(s.numbers)
	if err == nil {
		err = replaceFile(s.dir, numbersFile, text)
	}
	if err != nil {
		s.numbers[keyID] = old
		return fmt.Errorf("keep the number of a CRL: %w", err)
	}
	return nil
}

// SSH signs an SSH certificate and gives it in SSH wire format.
func (s *Service) SSH(_ context.Context, o SSHOrder) ([]byte, error) {
	now := time.Now()
	c, err := sshTemplate(o, now)
	if err != nil {
		return nil, err
	}
	key, what := s.sshUser, sshNames[0]
	if o.Host {
		key, what = s.sshHost, sshNames[1]
	}
	signed, err := sshutil.CreateCertificate(c, key)
	if err != nil {
		return nil, fmt.Errorf("sign an SSH certificate: %w", err)
	}
	return signed.Marshal(), s.journal.append(Entry{
		At: now.UTC(), What: what, Serial: strconv.FormatUint(o.Serial, 16), Subject: o.KeyID, Names: o.Principals,
		NotAfter: now.Add(o.Life).UTC(), Key: strings.TrimPrefix(ssh.FingerprintSHA256(c.Key), "SHA256:"),
	})
}
