package signer

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// maxGenerations bounds the generations of one issuer, and the keys that a
// flaw in the controller could make here.
const maxGenerations = 99

// Change carries out an [Action] and gives the generation as it is then.
// Repeating it changes nothing.
func (s *Service) Change(_ context.Context, c Change) (Info, error) {
	if c.Action == InstallRootCRL {
		return Info{}, s.installRootCRL(c.CRL)
	}
	if !slices.Contains(Issuers, c.Issuer) || c.Generation < 1 || c.Generation > maxGenerations {
		return Info{}, fmt.Errorf("%w: generation %d of issuer %q: there are %v, 1 to %d", inventory.ErrInvalid, c.Generation, c.Issuer, Issuers, maxGenerations)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var g *generation
	var err error
	switch c.Action {
	case Stage:
		g, err = s.stage(c)
	case Install:
		g, err = s.install(c)
	case Retire:
		g, err = s.retire(c)
	default:
		err = fmt.Errorf("%w: unknown action %q", inventory.ErrInvalid, c.Action)
	}
	if err != nil {
		return Info{}, fmt.Errorf("%s generation %d of the %s issuer: %w", c.Action, c.Generation, c.Issuer, err)
	}
	return g.info, s.journal.append(Entry{At: time.Now().UTC(), What: string(c.Action), Issuer: c.Issuer, Generation: c.Generation, KeyID: g.info.KeyID})
}

// generation finds one by its number, or nil.
func (s *Service) generation(i Issuer, n int) *generation {
	for _, g := range s.held {
		if g.info.Issuer == i && g.info.Generation == n {
			return g
		}
	}
	return nil
}

// stage makes what is missing: the key first, then the certificate, each whole
// or not at all.
func (s *Service) stage(c Change) (*generation, error) {
	now := time.Now()
	if g := s.generation(c.Issuer, c.Generation); g != nil && (g.cert != nil || s.rootKey == nil) {
		return g, nil
	}
	if c.Generation > 1 && s.generation(c.Issuer, c.Generation-1) == nil {
		return nil, fmt.Errorf("%w: there is no generation %d before it", inventory.ErrInvalid, c.Generation-1)
	}
	name := FileName(c.Issuer, c.Generation)
	if err := MakeKey(s.dir, name); err != nil {
		return nil, err
	}
	if s.rootKey != nil {
		key, err := LoadKey(s.dir, name)
		if err != nil {
			return nil, err
		}
		if c.RootCRLURL != "" {
			if err := webURL(c.RootCRLURL, ".crl"); err != nil {
				return nil, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
			}
		}
		t, err := caTemplate(caSpec{name: c.Issuer, domain: s.rules.domain, now: now, crlURL: c.RootCRLURL})
		if err != nil {
			return nil, err
		}
		cert, err := signCA(t, s.root, &key.PublicKey, s.rootKey)
		if err != nil {
			return nil, err
		}
		if err := addFile(s.dir, name+".crt", encodeCert(cert)); err != nil {
			return nil, err
		}
	}
	return s.reload(c, now)
}

// install takes a certificate for a key that waits for it.
func (s *Service) install(c Change) (*generation, error) {
	g := s.generation(c.Issuer, c.Generation)
	if g == nil {
		return nil, fmt.Errorf("%w: it has no key here; stage it first", inventory.ErrNotFound)
	}
	cert, err := x509.ParseCertificate(c.Certificate)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	if g.cert != nil {
		if g.cert.Equal(cert) {
			return g, nil
		}
		return nil, fmt.Errorf("%w: it has another certificate already", inventory.ErrConflict)
	}
	now := time.Now()
	if err := checkIssuer(cert, c.Issuer, &g.key.PublicKey, s.root, now); err != nil {
		return nil, err
	}
	if err := addFile(s.dir, FileName(c.Issuer, c.Generation)+".crt", encodeCert(cert)); err != nil {
		return nil, err
	}
	return s.reload(c, now)
}

// retire ends the signing of certificates by the generation.
func (s *Service) retire(c Change) (*generation, error) {
	if s.generation(c.Issuer, c.Generation) == nil {
		return nil, fmt.Errorf("%w: it has no key here", inventory.ErrNotFound)
	}
	if err := addFile(s.dir, FileName(c.Issuer, c.Generation)+retiredSuffix, nil); err != nil {
		return nil, err
	}
	return s.reload(c, time.Now())
}

// reload reads the generation from the disk again.
func (s *Service) reload(c Change, now time.Time) (*generation, error) {
	g, err := s.loadGeneration(c.Issuer, c.Generation, now)
	if err != nil {
		return nil, err
	}
	s.held[g.info.KeyID] = g
	return g, nil
}

// installRootCRL takes a list that is newer than the one at hand.
func (s *Service) installRootCRL(der []byte) error {
	fail := func(err error) error { return fmt.Errorf("install the root's CRL: %w", err) }
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", inventory.ErrInvalid, err))
	}
	if err := list.CheckSignatureFrom(s.root); err != nil {
		return fail(fmt.Errorf("%w: it is not signed by this root: %w", inventory.ErrInvalid, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, err := x509.ParseRevocationList(s.rootCRL); err == nil && have.Number != nil && (list.Number == nil || list.Number.Cmp(have.Number) < 0) {
		return fail(fmt.Errorf("%w: its number %v is below %v of the one in force", inventory.ErrConflict, list.Number, have.Number))
	}
	if err := replaceFile(s.dir, rootCRLFile, der); err != nil {
		return fail(err)
	}
	s.rootCRL = der
	return s.journal.append(Entry{At: time.Now().UTC(), What: string(InstallRootCRL), Issuer: Root, Serial: list.Number.String()})
}
