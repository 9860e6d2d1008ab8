package enrol

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
		if next, err = newSlot(cur.Device, cur.Root, purpose, cur.WireGuard); err != nil {
			return err
		}
		next.Serial, next.Channel, next.CAURL = cur.Serial, cur.Channel, cur.CAURL
		next.HubPins, next.Keys = cur.HubPins, cur.Keys
		if err := writeSlot(i.dir, nextFile, next); err != nil {
			return err
		}
	}
	answer, err := c.post(ctx, strings.TrimSuffix(cur.CAURL, "/")+RenewPath, i.TLS(),
		func() any { return RenewRequest{CSR: next.CSR, WireGuardPublicKey: publicText(cur.wireguard)} })
	if err != nil {
		return fmt.Errorf("renew certificate of %s at %s: %w", cur.Device, cur.CAURL, err)
	}
	next = next.take(answer)
	o, err := next.open()
	if err != nil {
		return fmt.Errorf("renew certificate of %s: answer of the controller: %w", cur.Device, err)
	}
	if err := commitSlot(i.dir, next); err != nil {
		return err
	}
	i.now.Store(o)
	return nil
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
	jitter := rand.Float64()
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
			jitter = rand.Float64()
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
