package pki

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// revokedSet answers at every handshake whether a certificate is revoked.
type revokedSet struct {
	mu      sync.RWMutex
	serials map[string]bool
	seq     int64 // newest entry of the log seen
}

func newRevokedSet() *revokedSet { return &revokedSet{serials: map[string]bool{}} }

func (s *revokedSet) has(serial string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.serials[serial]
}

// add gives the entries that were not in the set.
func (s *revokedSet) add(list []Revocation) []Revocation {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fresh []Revocation
	for _, r := range list {
		if !s.serials[r.Serial] {
			s.serials[r.Serial] = true
			fresh = append(fresh, r)
		}
	}
	return fresh
}

// at and seen hold the place in the log; only loadRevocations moves it, since
// an own write may overtake another replica's.
func (s *revokedSet) at() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.seq
}

func (s *revokedSet) seen(seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq = max(s.seq, seq)
}

// Revoke revokes a certificate and, for a device's, every live certificate of
// its lineage; the device's open connections end and its WireGuard key leaves
// the peers. Revoking again changes nothing. [inventory.ErrNotFound]: no such
// certificate; [inventory.ErrInvalid]: no reason given. A reason that starts
// with a name of RFC 5280 (for example "key-compromise") is shown in the CRL.
func (p *PKI) Revoke(ctx context.Context, serial, reason, by string) error {
	if strings.TrimSpace(reason) == "" {
		return fmt.Errorf("revoke certificate %s: %w: give a reason", serial, inventory.ErrInvalid)
	}
	fresh, err := p.deps.Store.Revoke(ctx, Revocation{Serial: serial, Reason: reason, By: by, At: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("revoke certificate %s: %w", serial, err)
	}
	p.enforce(fresh)
	p.peersChanged()
	e := Event{Actor: by, Action: "revoke", Object: "certificate " + serial, Outcome: "done", Reason: reason}
	if err := p.audit(context.WithoutCancel(ctx), e); err != nil {
		return fmt.Errorf("certificate %s is revoked, but: %w", serial, err)
	}
	return nil
}

// RevokeDevice revokes every certificate of a device that is valid or could be
// renewed. [inventory.ErrNotFound]: it has none.
func (p *PKI) RevokeDevice(ctx context.Context, device inventory.DeviceID, reason, by string) error {
	newest, err := p.deps.Store.Newest(ctx)
	if err != nil {
		return fmt.Errorf("revoke device %s: %w", device, err)
	}
	done := 0
	for _, c := range newest {
		if c.Device != device {
			continue
		}
		if err := p.Revoke(ctx, c.Serial, reason, by); err != nil {
			return err
		}
		done++
	}
	if done == 0 {
		return fmt.Errorf("revoke device %s: %w: it has no certificate that is valid or could be renewed", device, inventory.ErrNotFound)
	}
	return nil
}

// Revocations gives the whole revocation log, for a backup.
func (p *PKI) Revocations(ctx context.Context) ([]Revocation, error) {
	return p.deps.Store.Revocations(ctx, 0)
}

// MergeRevocations adds the entries of list that are missing, as after a
// restore from a backup that is older than they are. Call it after every
// restore, with an empty list too: it also moves the peer epoch past those
// handed out before.
func (p *PKI) MergeRevocations(ctx context.Context, list []Revocation, by string) (added int, err error) {
	fresh, err := p.deps.Store.MergeRevocations(ctx, list, time.Now().UTC())
	if err != nil {
		return 0, fmt.Errorf("merge revocations: %w", err)
	}
	p.enforce(fresh)
	p.peersChanged()
	e := Event{Actor: by, Action: "merge", Object: "revocations", Outcome: "done", Reason: fmt.Sprintf("%d of %d were missing", len(fresh), len(list))}
	if err := p.audit(context.WithoutCancel(ctx), e); err != nil {
		return len(fresh), fmt.Errorf("revocations are merged, but: %w", err)
	}
	return len(fresh), nil
}

// loadRevocations reads what the log has gained, from other replicas too.
func (p *PKI) loadRevocations(ctx context.Context) error {
	list, err := p.deps.Store.Revocations(ctx, p.revoked.at())
	if err != nil {
		return fmt.Errorf("read the revocation log: %w", err)
	}
	if len(list) == 0 {
		return nil
	}
	if p.enforce(list) {
		p.peersChanged()
	}
	p.revoked.seen(list[len(list)-1].Seq)
	return nil
}

// enforce refuses the certificates from now on and ends their connections.
func (p *PKI) enforce(list []Revocation) (news bool) {
	fresh := p.revoked.add(list)
	if len(fresh) == 0 {
		return false
	}
	p.crls.forget()
	p.metrics.revocations.Add(float64(len(fresh)))
	p.mu.RLock()
	closers := p.closers
	p.mu.RUnlock()
	for _, r := range fresh {
		for _, c := range closers {
			p.metrics.closed.Add(float64(c.CloseSerial(r.Serial, "certificate revoked: "+r.Reason)))
		}
	}
	return true
}

// reasonCodes are the CRL reasons of RFC 5280 §5.3.1 that an operator can mean.
var reasonCodes = map[string]int{
	"key-compromise": 1, "affiliation-changed": 3, "superseded": 4, "cessation-of-operation": 5, "privilege-withdrawn": 9,
}

func reasonCode(reason string) int {
	for name, code := range reasonCodes {
		if strings.HasPrefix(reason, name) {
			return code
		}
	}
	return 0 // unspecified
}

func reasonName(code int) string {
	for name, c := range reasonCodes {
		if c == code {
			return name
		}
	}
	return "unspecified"
}
