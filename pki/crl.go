package pki

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// crlLife is how long a CRL may be used; it is made anew every hour and after
// each revocation.
const (
	crlLife  = 24 * time.Hour
	crlFresh = time.Hour
)

func crlPath(keyID string) string { return "/crl/" + keyID + ".crl" }

// crlCache holds the newest CRL by issuer key.
type crlCache struct {
	mu   sync.Mutex
	gen  uint64 // raised by forget: a CRL made from older rows is not kept
	made map[string]cachedCRL
}

type cachedCRL struct {
	der []byte
	at  time.Time
}

func (c *crlCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	c.made = nil
}

func (c *crlCache) get(keyID string, now time.Time) ([]byte, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.made[keyID]; ok && now.Sub(m.at) < crlFresh {
		return m.der, c.gen
	}
	return nil, c.gen
}

func (c *crlCache) put(keyID string, m cachedCRL, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gen != c.gen {
		return
	}
	if c.made == nil {
		c.made = map[string]cachedCRL{}
	}
	c.made[keyID] = m
}

// CRL gives the current certificate revocation list of one issuer, DER. Each
// issuer signs its own: a verifier looks for one by the issuer of the leaf.
func (p *PKI) CRL(ctx context.Context, i Issuer) ([]byte, error) {
	c, ok := p.cas[i]
	if !ok {
		return nil, fmt.Errorf("no issuer %q", i)
	}
	now := time.Now().UTC()
	der, gen := p.crls.get(c.keyID, now)
	if der != nil {
		return der, nil
	}
	log, err := p.deps.Store.Revocations(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("make CRL of the %s CA: %w", i, err)
	}
	// Time as the floor: numbers rise over a restore too (RFC 5280 §5.2.3).
	number, err := p.deps.Store.NextNumber(ctx, "crl "+c.keyID, uint64(now.UnixMilli()))
	if err != nil {
		return nil, fmt.Errorf("make CRL of the %s CA: %w", i, err)
	}
	t := &x509.RevocationList{
		Number: new(big.Int).SetUint64(number), ThisUpdate: now.Add(-backdate), NextUpdate: now.Add(crlLife),
		RevokedCertificateEntries: crlEntries(log, c.keyID, now),
	}
	if c.crlURL != "" {
		point, err := distributionPoint(c.crlURL)
		if err != nil {
			return nil, err
		}
		t.ExtraExtensions = []pkix.Extension{point}
	}
	if der, err = x509.CreateRevocationList(rand.Reader, t, c.cert, c.signer); err != nil {
		return nil, fmt.Errorf("make CRL of the %s CA: %w", i, err)
	}
	p.crls.put(c.keyID, cachedCRL{der: der, at: now}, gen)
	return der, nil
}

// crlEntries are the revoked certificates of one issuer that have not long
// expired: an entry stays at least one CRL beyond the certificate's end.
func crlEntries(log []Revocation, keyID string, now time.Time) []x509.RevocationListEntry {
	var out []x509.RevocationListEntry
	for _, r := range log {
		serial, ok := new(big.Int).SetString(r.Serial, 16)
		if !ok || r.IssuerKey != keyID || now.After(r.NotAfter.Add(crlLife)) {
			continue
		}
		out = append(out, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: r.At, ReasonCode: reasonCode(r.Reason)})
	}
	return out
}

// distributionPoint is the issuing distribution point (RFC 5280 §5.2.5). It
// equals the leaf's CRL distribution point byte for byte; OpenSSL takes
// anything else as a CRL of another scope.
func distributionPoint(url string) (pkix.Extension, error) {
	type name struct {
		FullName []asn1.RawValue `asn1:"optional,tag:0"`
	}
	type point struct {
		Name name `asn1:"optional,tag:0"`
	}
	der, err := asn1.Marshal(point{Name: name{FullName: []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(url)}}}})
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encode CRL distribution point: %w", err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: der}, nil
}
