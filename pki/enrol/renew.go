package enrol

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// look bounds a sleep, so that a clock set forward is noticed.
const look = time.Hour

// Next is how long to wait before renewing a certificate: until two thirds of
// its life, plus up to a twelfth of it by jitter in [0,1), so that devices
// enrolled together do not renew together. Zero means now.
func Next(now, notBefore, notAfter time.Time, jitter float64) time.Duration {
	life := notAfter.Sub(notBefore)
	due := notBefore.Add(life*2/3 + time.Duration(jitter*float64(life/12)))
	return max(0, due.Sub(now))
}

// Renew fetches the next certificate and makes it the current one. Key and CSR
// are on disk before the request; after a crash the same CSR is sent again and
// the controller answers with the same certificate. It retries like
// [Client.Enrol] until ctx ends.
func (i *Identity) Renew(ctx context.Context) error { return i.renewWith(ctx, Client{}) }

func (i *Identity) renewWith(ctx context.Context, c Client) error {
	c.Journal, c.Observe = nil, nil // no first boot
	i.renew.Lock()
	defer i.renew.Unlock()
	cur := i.now.Load()
	purpose := "certificate " + SerialOf(cur.pair.Leaf)
	next, err := readSlot(i.dir, nextFile)
	if err != nil || next.For != purpose || next.Root != cur.Root {
		if next, err = newSlot(cur.Device, cur.Root, purpose, cur.WireGuard, i.keys); err != nil {
			return err
		}
		next.Serial, next.Channel, next.CAURL = cur.Serial, cur.Channel, cur.CAURL
		next.HubPins, next.Keys = cur.HubPins, cur.Keys
		if err := writeSlot(i.dir, nextFile, next); err != nil {
			return err
		}
	}
	answer, err := i.ask(ctx, c, cur, next)
	if err != nil {
		return fmt.Errorf("renew certificate of %s at %s: %w", cur.Device, cur.CAURL, err)
	}
	next = next.take(answer).repin(answer, cur.keys["checkpoint"])
	o, err := next.open(i.keys)
	if err != nil {
		return fmt.Errorf("renew certificate of %s: answer of the controller: %w", cur.Device, err)
	}
	if err := commitSlot(i.dir, next); err != nil {
		return err
	}
	i.now.Store(o)
	if i.keys != nil && !isFileKey(cur.Key) {
		if err := i.keys.Forget(cur.Key); err != nil && c.Log != nil {
			c.Log.Warn("old device key not removed", "err", err)
		}
	}
	c.keepSSH(i.dir, answer)
	return nil
}

// ask sends the request, with the certificate shown in TLS as long as the
// controller takes it there; else signed by its key, which is good after its
// end too and gets a reason when it is refused.
func (i *Identity) ask(ctx context.Context, c Client, cur *opened, next slot) (Response, error) {
	base := strings.TrimSuffix(cur.CAURL, "/")
	c.askClock = func(ctx context.Context, c Client) (time.Duration, bool) {
		if len(cur.keys["checkpoint"]) == 0 {
			return 0, false // an old identity, and nobody to believe
		}
		check := func(cs tls.ConnectionState) error { return checkPins(cs, cur.HubPins) }
		skew, err := c.askTime(ctx, base, cur.Device, cur.roots, check, cur.keys["checkpoint"])
		return -skew, err == nil // the key is pinned
	}
	cfg := i.TLS()
	cfg.Time, c.patient = c.Now, true
	if c.now().Before(cur.pair.Leaf.NotAfter) {
		shown := c
		shown.enough = turnedAway
		answer, err := shown.post(ctx, base+RenewPath, cfg, func() any {
			return RenewRequest{CSR: next.CSR, WireGuardPublicKey: publicText(cur.wireguard), Time: c.now().UTC(), SSHHostKey: c.hostKey()}
		})
		if err == nil || ctx.Err() != nil || !turnedAway(err) {
			return answer, err
		}
	}
	q, err := cur.signed(next, c.hostKey())
	if err != nil {
		return Response{}, err
	}
	cfg = cfg.Clone()
	cfg.GetClientCertificate = nil
	return c.post(ctx, base+RenewSignedPath, cfg, func() any {
		q.Time = c.now().UTC()
		return q
	})
}

// turnedAway says that the other side ended the TLS connection: in TLS 1.3 it
// does so after the handshake when it does not take the certificate.
func turnedAway(err error) bool {
	var op *net.OpError
	return (errors.As(err, &op) && op.Op == "remote error") || Classify(err) == CauseConnectionLost
}

// signed is the request that proves to hold the key of the certificate in use.
func (o *opened) signed(next slot, hostKey string) (SignedRenewal, error) {
	csr, err := ParseCSR(next.CSR)
	if err != nil {
		return SignedRenewal{}, err
	}
	leaf, wg := o.pair.Leaf, publicText(o.wireguard)
	key, ok := o.pair.PrivateKey.(crypto.Signer)
	if !ok {
		return SignedRenewal{}, fmt.Errorf("%w: a %T cannot sign", inventory.ErrInvalid, o.pair.PrivateKey)
	}
	sum := sha256.Sum256(SignedRenewalPayload(leaf, CSRHash(csr), wg, hostKey))
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return SignedRenewal{}, fmt.Errorf("sign with the device's key: %w", err)
	}
	return SignedRenewal{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})),
		CSR:         next.CSR, WireGuardPublicKey: wg, SSHHostKey: hostKey, Signature: sig,
	}, nil
}

// RunRenewal is [Client.RunRenewal] of a client that only logs.
func (i *Identity) RunRenewal(ctx context.Context, log *slog.Logger) error {
	return Client{Log: log}.RunRenewal(ctx, i)
}

// RunRenewal renews i for as long as ctx lives and returns nil then. It returns
// early when the controller refuses, for asking again cannot help. Log is
// required.
func (c Client) RunRenewal(ctx context.Context, i *Identity) error {
	log := c.Log
	jitter := mathrand.Float64()
	for {
		leaf := i.Certificate()
		wait := Next(time.Now(), leaf.NotBefore, leaf.NotAfter, jitter)
		if wait > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(min(wait, look)):
			}
			continue
		}
		err := i.renewWith(ctx, c)
		var refused *RefusedError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refused):
			return fmt.Errorf("%w; the device needs a new enrolment token", err)
		case errors.Is(err, inventory.ErrInvalid):
			return err
		case err != nil: // the disk: keep the old certificate and try again
			log.ErrorContext(ctx, "certificate not renewed", "device", i.Device(), "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Minute):
			}
		default:
			jitter = mathrand.Float64()
			leaf = i.Certificate()
			log.InfoContext(ctx, "certificate renewed", "device", i.Device(), "not_after", leaf.NotAfter)
			if Next(time.Now(), leaf.NotBefore, leaf.NotAfter, jitter) > 0 {
				continue
			}
			// Due again at once: our clock runs ahead. Do not spin.
			log.WarnContext(ctx, "new certificate looks old, check the device's clock", "device", i.Device())
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(min(look, leaf.NotAfter.Sub(leaf.NotBefore)/10)):
			}
		}
	}
}
