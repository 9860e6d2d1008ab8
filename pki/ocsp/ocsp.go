// Package ocsp answers whether a certificate is revoked (RFC 6960, RFC 5019),
// per issuer generation with a responder certificate that the issuer delegates,
// with nonce (RFC 9654), by GET and POST. Answers live five minutes and are used
// again until something is revoked.
package ocsp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Times of answers and responder certificates.
const (
	answerLife    = 5 * time.Minute
	answerFresh   = time.Minute // how long a kept answer is given again
	delegateLife  = 3 * 24 * time.Hour
	delegateRenew = 24 * time.Hour // before its end
	maxKept       = 20_000         // answers
)

// State is what is said of a certificate (RFC 6960 §2.2).
type State int

// States, with the tags of RFC 6960 §4.2.1.
const (
	Good    State = 0
	Revoked State = 1
	Unknown State = 2
)

// Status is the state of one certificate.
type Status struct {
	State  State
	At     time.Time // of the revocation
	Reason int       // RFC 5280 §5.3.1
}

// Issuer is one generation of an issuing CA.
type Issuer struct {
	KeyID       string
	Certificate *x509.Certificate
}

// Source is what a responder answers from.
type Source interface {
	// Issuers lists the generations that are answered for.
	Issuers() []Issuer
	// Delegate has the issuer certify key for OCSP answers until end.
	Delegate(ctx context.Context, keyID string, key crypto.PublicKey, end time.Time) (*x509.Certificate, error)
	// Status tells of a serial number in lower-case hex.
	Status(ctx context.Context, keyID, serial string) (Status, error)
	// Epoch rises with every revocation: earlier answers are stale.
	Epoch() uint64
}

// Deps are what a responder needs; all but Reg are required.
type Deps struct {
	Source Source
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: metrics work, nobody collects them
}

// Responder answers OCSP requests. It is safe for concurrent use.
type Responder struct {
	deps    Deps
	metrics *metrics

	mu        sync.Mutex // guards the rest
	delegates map[string]*delegate
	kept      map[string]kept
	epoch     uint64
}

// delegate is the key that answers for one issuer.
type delegate struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// kept is an answer that may be given again.
type kept struct {
	der []byte
	at  time.Time
}

// New makes a responder; its keys are made when the first question comes, and
// never leave the process.
func New(d Deps) *Responder {
	return &Responder{deps: d, metrics: newMetrics(d.Reg), delegates: map[string]*delegate{}, kept: map[string]kept{}}
}

// errNotOurs means that no issuer of ours is asked about.
var errNotOurs = errors.New("the question is not about an issuer of ours")

// issuerOf finds whom a question is about.
func (r *Responder) issuerOf(id certID) (Issuer, error) {
	hash, err := id.hash()
	if err != nil {
		return Issuer{}, err
	}
	for _, i := range r.deps.Source.Issuers() {
		name, key, err := hashes(i.Certificate, hash)
		if err != nil {
			return Issuer{}, err
		}
		if bytes.Equal(name, id.NameHash) && bytes.Equal(key, id.KeyHash) {
			return i, nil
		}
	}
	return Issuer{}, errNotOurs
}

// delegateOf gives the key that answers for an issuer, with a certificate that
// has a day left.
func (r *Responder) delegateOf(ctx context.Context, keyID string, now time.Time) (*delegate, error) {
	r.mu.Lock()
	d := r.delegates[keyID]
	r.mu.Unlock()
	if d != nil && now.Before(d.cert.NotAfter.Add(-delegateRenew)) {
		return d, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the OCSP key: %w", err)
	}
	cert, err := r.deps.Source.Delegate(ctx, keyID, &key.PublicKey, now.Add(delegateLife))
	if err != nil {
		if d != nil && now.Before(d.cert.NotAfter) {
			return d, nil // the signer is away; a day is left to come back
		}
		return nil, err
	}
	d = &delegate{key, cert}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delegates[keyID] = d
	return d, nil
}

// Answer gives the DER of the answer to a DER request, and until when it may be
// used again; zero: never. What is no request, or asks about nothing of ours,
// gets the error response of RFC 6960 §4.2.1.
func (r *Responder) Answer(ctx context.Context, der []byte, now time.Time) (answer []byte, until time.Time) {
	q, err := parseRequest(der)
	if err != nil {
		r.metrics.answers.WithLabelValues("malformed").Inc()
		return failure(malformedRequest), time.Time{}
	}
	answer, until, err = r.answer(ctx, q, now.UTC())
	switch {
	case errors.Is(err, errNotOurs):
		r.metrics.answers.WithLabelValues("unauthorized").Inc()
		return failure(unauthorized), time.Time{}
	case err != nil:
		if ctx.Err() == nil {
			r.deps.Log.ErrorContext(ctx, "OCSP request not answered", "err", err)
		}
		r.metrics.answers.WithLabelValues("failed").Inc()
		return failure(tryLater), time.Time{}
	}
	return answer, until
}

func (r *Responder) answer(ctx context.Context, q request, now time.Time) ([]byte, time.Time, error) {
	issuer, err := r.issuerOf(q.ids[0])
	if err != nil {
		return nil, time.Time{}, err
	}
	epoch := r.deps.Source.Epoch() // before the look-up: what comes later makes the answer stale
	keep := len(q.ids) == 1 && q.nonce == nil
	if keep {
		if k, ok := r.again(q.ids[0].cacheKey(), epoch, now); ok {
			r.metrics.answers.WithLabelValues("kept").Inc()
			return k.der, k.at.Add(answerFresh), nil
		}
	}
	list := make([]single, len(q.ids))
	state := ""
	for i, id := range q.ids {
		if other, err := r.issuerOf(id); err != nil || other.KeyID != issuer.KeyID {
			return nil, time.Time{}, errNotOurs // one signer per answer
		}
		st, err := r.deps.Source.Status(ctx, issuer.KeyID, id.Serial.Text(16))
		if err != nil {
			return nil, time.Time{}, err
		}
		list[i] = singleOf(id, st, now)
		state = st.State.String()
	}
	d, err := r.delegateOf(ctx, issuer.KeyID, now)
	if err != nil {
		return nil, time.Time{}, err
	}
	start := time.Now()
	der, err := sign(list, q.nonce, d, now)
	if err != nil {
		return nil, time.Time{}, err
	}
	r.metrics.signing.Observe(time.Since(start).Seconds())
	r.metrics.answers.WithLabelValues(state).Inc()
	if !keep {
		return der, time.Time{}, nil
	}
	r.keep(q.ids[0].cacheKey(), kept{der, now}, epoch)
	return der, now.Add(answerFresh), nil
}

func (r *Responder) again(id string, epoch uint64, now time.Time) (kept, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch != r.epoch {
		clear(r.kept)
		r.epoch = epoch
		return kept{}, false
	}
	k, ok := r.kept[id]
	return k, ok && now.Sub(k.at) < answerFresh
}

func (r *Responder) keep(id string, k kept, epoch uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch != r.epoch {
		return
	}
	if len(r.kept) >= maxKept {
		clear(r.kept)
	}
	r.kept[id] = k
}
