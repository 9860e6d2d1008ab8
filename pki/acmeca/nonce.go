package acmeca

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/smallstep/certificates/acme"
)

// nonceLife is how long a nonce may be used; a client that took longer gets
// badNonce with a fresh one and tries again (RFC 8555 §6.5).
const nonceLife = time.Hour

const (
	nonceBody = 8 + 16 // seconds since 1970, randomness
	nonceSize = nonceBody + sha256.Size/2
)

// nonces are made without a write: each carries the time of its making and a
// proof of it. Only one that is used is kept, so strangers who ask for nonces
// cost no row. The key is common to all replicas.
type nonces struct {
	key  []byte
	used Ledger
}

func openNonces(ctx context.Context, l Ledger) (*nonces, error) {
	proposed := make([]byte, 32)
	rand.Read(proposed) //nolint:errcheck // never fails, crypto/rand
	key, err := l.NonceKey(ctx, proposed)
	if err != nil {
		return nil, fmt.Errorf("open the nonces of ACME: %w", err)
	}
	return &nonces{key, l}, nil
}

func (n *nonces) proof(body []byte) []byte {
	m := hmac.New(sha256.New, n.key)
	m.Write(body)
	return m.Sum(nil)[:nonceSize-nonceBody]
}

func (n *nonces) make(now time.Time) acme.Nonce {
	b := make([]byte, nonceBody, nonceSize)
	binary.BigEndian.PutUint64(b, uint64(now.Unix()))
	rand.Read(b[8:]) //nolint:errcheck // never fails, crypto/rand
	return acme.Nonce(base64.RawURLEncoding.EncodeToString(append(b, n.proof(b)...)))
}

// made gives the time a nonce of ours was made.
func (n *nonces) made(nonce string) (time.Time, bool) {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != nonceSize || !hmac.Equal(b[nonceBody:], n.proof(b[:nonceBody])) {
		return time.Time{}, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b)), 0), true
}

// use consumes a nonce; one that is foreign, old or used is refused.
func (n *nonces) use(ctx context.Context, nonce string, now time.Time) error {
	bad := func(why string) error {
		return acme.NewError(acme.ErrorBadNonceType, "nonce %.60q %s", nonce, why)
	}
	at, ok := n.made(nonce)
	switch {
	case !ok:
		return bad("is not of this server")
	case now.Sub(at) > nonceLife || at.Sub(now) > time.Minute:
		return bad("is too old")
	}
	first, err := n.used.UseNonce(ctx, nonce, at.Add(nonceLife+time.Minute))
	switch {
	case err != nil:
		return acme.WrapErrorISE(err, "use nonce")
	case !first:
		return bad("was used before")
	}
	return nil
}
