package pki

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// tokenBytes of randomness make a token.
const tokenBytes = 32

// CreateToken makes a one-time enrolment token for a device with that hardware
// serial and ends the device's earlier unused ones. The token is shown once;
// only its hash is kept. An unknown or retired device wraps
// [inventory.ErrNotFound], another serial than the declared one
// [inventory.ErrInvalid].
func (p *PKI) CreateToken(ctx context.Context, device inventory.DeviceID, serial, by string) (token string, expires time.Time, err error) {
	return p.createToken(ctx, device, serial, by, 0)
}

// createToken makes a token that lives for life; 0 is one for a device that is
// online now.
func (p *PKI) createToken(ctx context.Context, device inventory.DeviceID, serial, by string, life time.Duration) (token string, expires time.Time, err error) {
	if _, err := enrol.SPIFFEID(p.cfg.TrustDomain, enrol.DeviceKind, string(device)); err != nil {
		return "", time.Time{}, fmt.Errorf("create enrolment token: %w", err)
	}
	d, err := p.declared(ctx, device)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("create enrolment token: %w", err)
	}
	if serial == "" || (d.Serial != "" && d.Serial != serial) {
		return "", time.Time{}, fmt.Errorf("create enrolment token: %w: device %s has another serial than %q; correct the inventory first", inventory.ErrInvalid, device, serial)
	}
	token, t := p.newToken(device, serial, by)
	e := Event{Actor: by, Action: "token", Object: string(device), Outcome: "done"}
	if life > 0 {
		t.Offline, t.Expires = true, t.At.Add(life)
		e.Reason = "offline, until " + t.Expires.Format(time.RFC3339)
	}
	if err := p.audit(ctx, e); err != nil {
		return "", time.Time{}, fmt.Errorf("create enrolment token for %s: %w", device, err)
	}
	if err := p.deps.Store.AddToken(ctx, t); err != nil {
		return "", time.Time{}, fmt.Errorf("create enrolment token for %s: %w", device, err)
	}
	p.metrics.tokens.Inc()
	return token, t.Expires, nil
}

// newToken makes a token and what is kept of it.
func (p *PKI) newToken(device inventory.DeviceID, serial, by string) (secret string, t Token) {
	raw := make([]byte, tokenBytes)
	rand.Read(raw) //nolint:errcheck // never fails, crypto/rand
	secret = base64.RawURLEncoding.EncodeToString(raw)
	now := time.Now().UTC()
	return secret, Token{Hash: tokenHash(secret), Device: device, Serial: serial, By: by, At: now, Expires: now.Add(p.cfg.TokenTTL)}
}

// SignBundle signs b with the key of the controller's own certificate.
func (p *PKI) SignBundle(b enrol.Bundle) (enrol.Bundle, error) {
	pair := p.server.Load().pair
	payload, err := b.Payload()
	if err != nil {
		return enrol.Bundle{}, err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return enrol.Bundle{}, fmt.Errorf("sign the bundle of %s: the controller's key is a %T", b.Device, pair.PrivateKey)
	}
	sum := sha256.Sum256(payload)
	if b.Signature, err = signer.Sign(rand.Reader, sum[:], crypto.SHA256); err != nil {
		return enrol.Bundle{}, fmt.Errorf("sign the bundle of %s: %w", b.Device, err)
	}
	var chain strings.Builder
	for _, der := range pair.Certificate {
		chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	b.Signer = chain.String()
	return b, nil
}

// Bundle is what to hand to the device with its token, not signed yet.
func (p *PKI) Bundle(device inventory.DeviceID, serial, token string) enrol.Bundle {
	return enrol.Bundle{
		EnrolURL: p.cfg.EnrolURL, Channel: p.cfg.Channel, CAURL: p.cfg.CAURL, RootPEM: p.RootPEM(),
		Device: device, Serial: serial, Token: token,
	}
}

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// presentation is a token as it is shown at the enrolment listener.
type presentation struct {
	serial  string
	device  inventory.DeviceID // of the CSR
	csrHash string
	at      time.Time
}

// errRetry means that the token was spent on this very CSR: the answer is the
// certificate recorded then.
var errRetry = errors.New("token spent on the same request")

// judge says whether the presentation may consume the token: nil, [errRetry],
// or the reason why not.
func judge(r Redemption, q presentation) (Reason, error) {
	t := r.Token
	switch {
	case t.Serial != q.serial:
		return WrongSerial, fmt.Errorf("the token is for a device with another serial than %q", q.serial)
	case t.Device != q.device:
		return WrongDevice, fmt.Errorf("the token is not for device %q", q.device)
	case !t.UsedAt.IsZero() && t.CSRHash == q.csrHash && !r.Certificate.RevokedAt.IsZero():
		return Revoked, errors.New("the certificate issued for this token is revoked; ask for a new token")
	case !t.UsedAt.IsZero() && t.CSRHash == q.csrHash:
		return "", errRetry
	case !t.UsedAt.IsZero():
		return UsedToken, errors.New("the token has been used; ask for a new one")
	case !q.at.Before(t.Expires):
		return ExpiredToken, fmt.Errorf("the token expired at %s; ask for a new one", t.Expires.UTC().Format(time.RFC3339))
	case t.Offline && t.ConfirmedCSR == "":
		return "", errUnconfirmed
	case t.Offline && t.ConfirmedCSR != q.csrHash:
		return NotConfirmed, fmt.Errorf("%s has confirmed another device for this token; ask for a new one", t.ConfirmedBy)
	}
	return "", nil
}
