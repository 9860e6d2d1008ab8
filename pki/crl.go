package pki

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/signer"
)

// crlLife is how long a CRL may be used; it is made anew every hour and after
// each revocation.
const (
	crlLife  = 24 * time.Hour
	crlFresh = time.Hour
)

func crlPath(keyID string) string { return signer.CRLPath(keyID) }

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

// CRL gives the current certificate revocation list of an issuer's active
// generation, DER.
func (p *PKI) CRL(ctx context.Context, i Issuer) ([]byte, error) {
	g, ok := p.issuers.Load().active[i]
	if !ok {
		return nil, fmt.Errorf("no issuer %q: %w", i, inventory.ErrNotFound)
	}
	return p.CRLOf(ctx, g.KeyID)
}

// CRLOf gives the current revocation list of one generation, DER. Each signs
// its own: a verifier looks for one by the issuer of the leaf.
func (p *PKI) CRLOf(ctx context.Context, keyID string) ([]byte, error) {
	g, ok := p.issuers.Load().byKey[keyID]
	if !ok {
		return nil, fmt.Errorf("no issuer has the key %.12q: %w", keyID, inventory.ErrNotFound)
	}
	now := time.Now().UTC()
	der, gen := p.crls.get(keyID, now)
	if der != nil {
		return der, nil
	}
	log, err := p.deps.Store.Revocations(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("make CRL of the %s CA: %w", g.Issuer, err)
	}
	der, err = p.signCRL(ctx, signer.CRLOrder{KeyID: keyID, Life: crlLife, URL: g.crlURL, Entries: crlEntries(log, keyID, now)})
	if err != nil {
		return nil, fmt.Errorf("make CRL of the %s CA: %w", g.Issuer, err)
	}
	p.crls.put(keyID, cachedCRL{der: der, at: now}, gen)
	return der, nil
}

// signCRL has a list signed under the next number.
func (p *PKI) signCRL(ctx context.Context, o signer.CRLOrder) ([]byte, error) {
	for tries := 0; ; tries++ {
		var err error
		// Time as the floor: numbers rise over a restore too (RFC 5280 §5.2.3).
		if o.Number, err = p.deps.Store.NextNumber(ctx, "crl "+o.KeyID, uint64(time.Now().UnixMilli())); err != nil {
			return nil, err
		}
		der, err := p.signer.CRL(ctx, o)
		// Another replica's higher number may have overtaken ours on the way.
		if !errors.Is(err, signer.ErrNumber) || tries >= 5 {
			return der, err
		}
	}
}

// RootCRL gives the root's revocation list, DER: the generations that are not
// to be trusted. Where the root's key is elsewhere it is the list that was
// imported last; [signer.ErrCeremony]: none was.
func (p *PKI) RootCRL(ctx context.Context) ([]byte, error) {
	now := time.Now().UTC()
	der, gen := p.crls.get(string(signer.Root), now)
	if der != nil {
		return der, nil
	}
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("make the root's CRL: %w", err) }
	st, err := p.signer.State(ctx)
	if err != nil {
		return fail(err)
	}
	switch {
	case st.RootKey:
		o := signer.CRLOrder{KeyID: p.rootID, Life: crlLife, URL: p.rootCRLURL()}
		for _, g := range p.issuers.Load().list {
			if g.State == Distrusted {
				o.Entries = append(o.Entries, signer.CRLEntry{Serial: enrol.SerialOf(g.cert), At: g.EndedAt, Reason: caCompromise})
			}
		}
		if der, err = p.signCRL(ctx, o); err != nil {
			return fail(err)
		}
	case st.RootCRL != nil:
		der = st.RootCRL
	default:
		return fail(signer.ErrCeremony)
	}
	p.crls.put(string(signer.Root), cachedCRL{der: der, at: now}, gen)
	return der, nil
}

// caCompromise is the reason of RFC 5280 §5.3.1 for an issuer's entry.
const caCompromise = 2

// rootCRLURL is where the root's list is; "" when no status listener is known.
func (p *PKI) rootCRLURL() string {
	if p.cfg.StatusURL == "" {
		return ""
	}
	return p.cfg.StatusURL + crlPath(string(signer.Root))
}

// crlEntries are the revoked certificates of one issuer that have not long
// expired: an entry stays at least one CRL beyond the certificate's end.
func crlEntries(log []Revocation, keyID string, now time.Time) []signer.CRLEntry {
	var out []signer.CRLEntry
	for _, r := range log {
		if serial, ok := new(big.Int).SetString(r.Serial, 16); !ok || serial.Sign() <= 0 || r.IssuerKey != keyID || now.After(r.NotAfter.Add(crlLife)) {
			continue
		}
		out = append(out, signer.CRLEntry{Serial: r.Serial, At: r.At, Reason: reasonCode(r.Reason)})
	}
	return out
}
