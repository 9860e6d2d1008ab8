package store

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// authorityOn opens a CA whose state is in db.
func authorityOn(t *testing.T, db *DB, dir string) *pki.PKI {
	t.Helper()
	p, err := pki.Open(t.Context(), pki.Deps{
		Store: NewPKI(db, "hcmc"), Dir: dir, Log: slog.New(slog.DiscardHandler),
		Audit: func(context.Context, pki.Event) error { return nil },
	}, pki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wireGuardKey(t testing.TB) string {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(k.PublicKey().Bytes())
}

func request(t testing.TB, p *pki.PKI, device, token string) enrol.Request {
	t.Helper()
	key, err := enrol.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := enrol.SPIFFEID(p.TrustDomain(), enrol.DeviceKind, device)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := enrol.NewCSR(key, id)
	if err != nil {
		t.Fatal(err)
	}
	return enrol.Request{Token: token, Serial: "SN-" + device, CSR: csr, WireGuardPublicKey: wireGuardKey(t)}
}

// Every token is presented 8 times at once, half of them to another replica,
// half of them with another CSR: one certificate per token, whoever wins.
func TestTokenIsSpentOnce(t *testing.T) {
	const tokens, presentations = 60, 8
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db, dir := open(t), t.TempDir()
			replicas := []*pki.PKI{authorityOn(t, db, dir), authorityOn(t, db, dir)}
			type shown struct {
				device string
				q      enrol.Request
			}
			var queue []shown
			for i := range tokens {
				device := fmt.Sprintf("e-%d", i)
				token, _, err := replicas[0].CreateToken(t.Context(), inventory.DeviceID(device), "SN-"+device, "test")
				if err != nil {
					t.Fatal(err)
				}
				first, second := request(t, replicas[0], device, token), request(t, replicas[0], device, token)
				for n := range presentations {
					queue = append(queue, shown{device, []enrol.Request{first, second}[n/2%2]})
				}
			}
			var granted, used atomic.Int32
			var mu sync.Mutex
			issued := map[string]map[string]bool{} // device, serial
			var wg sync.WaitGroup
			next := make(chan int)
			for range presentations {
				wg.Go(func() {
					for i := range next {
						c, err := replicas[i%2].Enrol(t.Context(), "192.0.2.1:1", queue[i].q)
						var refused *pki.Refusal
						switch {
						case err == nil:
							granted.Add(1)
							mu.Lock()
							if issued[queue[i].device] == nil {
								issued[queue[i].device] = map[string]bool{}
							}
							issued[queue[i].device][c.Serial] = true
							mu.Unlock()
						case errors.As(err, &refused) && refused.Reason == pki.UsedToken:
							used.Add(1)
						default:
							t.Errorf("presentation %d: %v", i, err)
						}
					}
				})
			}
			for i := range queue {
				next <- i
			}
			close(next)
			wg.Wait()
			for device, serials := range issued {
				if len(serials) != 1 {
					t.Errorf("%s got %d certificates", device, len(serials))
				}
			}
			if granted.Load() != tokens*presentations/2 || used.Load() != tokens*presentations/2 {
				t.Errorf("%d granted, %d refused as used, want %d each", granted.Load(), used.Load(), tokens*presentations/2)
			}
			all, err := replicas[1].List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			devices := 0
			for _, c := range all {
				if c.Issuer == pki.Devices {
					devices++
				}
			}
			if devices != tokens {
				t.Errorf("%d certificates of devices are recorded, want %d", devices, tokens)
			}
		})
	}
}

func TestSignedTokenIsUsedOnce(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewPKI(open(t), "hcmc")
			var firsts atomic.Int32
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					first, err := s.UseToken(t.Context(), "jti", time.Now().Add(time.Hour))
					if err != nil {
						t.Error(err)
					}
					if first {
						firsts.Add(1)
					}
				})
			}
			wg.Wait()
			if firsts.Load() != 1 {
				t.Errorf("%d callers were first", firsts.Load())
			}
		})
	}
}

func TestRevocationLogOnlyGrows(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			s, r := NewPKI(db, "hcmc"), pki.Revocation{Serial: "a1", At: time.Now().UTC(), NotAfter: time.Now().UTC().Add(time.Hour), Reason: "test"}
			if _, err := s.MergeRevocations(t.Context(), []pki.Revocation{r}, r.At); err != nil {
				t.Fatal(err)
			}
			for _, q := range []string{"UPDATE pki_revocations SET reason = 'x'", "DELETE FROM pki_revocations"} {
				err := db.Write(t.Context(), func(tx *Tx) error { _, err := tx.Exec(q); return err })
				if err == nil || !strings.Contains(err.Error(), "append-only") {
					t.Errorf("%s gave %v", q, err)
				}
			}
			if _, err := s.MergeRevocations(t.Context(), []pki.Revocation{{Serial: "b2"}}, r.At); !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("an incomplete entry gave %v", err)
			}
			if err := s.BindRoot(t.Context(), "one"); err != nil {
				t.Fatal(err)
			}
			if err := s.BindRoot(t.Context(), "two"); !errors.Is(err, inventory.ErrConflict) {
				t.Errorf("a second root gave %v", err)
			}
		})
	}
}

func TestNumbersRiseUnderConcurrency(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewPKI(open(t), "hcmc")
			var mu sync.Mutex
			seen := map[uint64]bool{}
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 5 {
						n, err := s.NextNumber(t.Context(), "crl", 100)
						if err != nil {
							t.Error(err)
						}
						mu.Lock()
						if seen[n] || n < 100 {
							t.Errorf("number %d", n)
						}
						seen[n] = true
						mu.Unlock()
					}
				})
			}
			wg.Wait()
		})
	}
}

// Random enrolments, renewals and revocations leave the peers that a dumb twin
// expects, and the epoch has risen with every change of them.
func TestPeersFollowTheLineages(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db, run := open(t), 0
			rapid.Check(t, func(rt *rapid.T) {
				run++
				s := NewPKI(db, inventory.OrgID(fmt.Sprintf("org-%d", run)))
				w := twin{s: s, current: map[inventory.DeviceID]pki.Certificate{}, dead: map[string]bool{}}
				for range rapid.IntRange(1, 8).Draw(rt, "steps") {
					w.step(rt)
					epoch, keys, err := s.Peers(context.Background())
					if err != nil {
						rt.Fatal(err)
					}
					want := map[inventory.DeviceID]string{}
					for device, c := range w.current {
						if !w.dead[c.Lineage] {
							want[device] = c.WireGuard
						}
					}
					if !maps.Equal(keys, want) {
						rt.Fatalf("peers %v, want %v", keys, want)
					}
					if !maps.Equal(want, w.peers) && epoch <= w.epoch {
						rt.Fatalf("peers changed at epoch %d after %d", epoch, w.epoch)
					}
					w.peers, w.epoch = want, epoch
				}
			})
		})
	}
}

// twin does one thing to the store and to plain maps.
type twin struct {
	s       *PKI
	n       int
	current map[inventory.DeviceID]pki.Certificate
	dead    map[string]bool // lineages
	peers   map[inventory.DeviceID]string
	epoch   uint64
}

func (w *twin) step(rt *rapid.T) {
	w.n++
	ctx, now := context.Background(), time.Now().UTC()
	device := inventory.DeviceID(rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "device"))
	cur, enrolled := w.current[device]
	c := pki.Certificate{
		Serial: fmt.Sprint("c", w.n), Issuer: pki.Devices, Device: device, CSRHash: fmt.Sprint("csr", w.n),
		WireGuard: fmt.Sprint("wg", w.n), IssuedAt: now, NotBefore: now, NotAfter: now.Add(time.Hour),
	}
	switch what := rapid.SampledFrom([]string{"enrol", "renew", "renew same key", "revoke"}).Draw(rt, "what"); {
	case what == "enrol" || !enrolled:
		c.Lineage = c.Serial
		t := pki.Token{Hash: fmt.Sprint("t", w.n), Device: device, At: now, Expires: now.Add(time.Minute)}
		if err := w.s.AddToken(ctx, t); err != nil {
			rt.Fatal(err)
		}
		if r, err := w.s.Redeem(ctx, t.Hash, c); err != nil || !r.First || r.Certificate.Serial != c.Serial {
			rt.Fatalf("redeem: %+v, %v", r, err)
		}
		w.dead[cur.Lineage] = true
		w.current[device] = c
	case what == "revoke":
		fresh, err := w.s.Revoke(ctx, pki.Revocation{Serial: cur.Serial, Reason: "test", At: now})
		if err != nil || (len(fresh) == 0) != w.dead[cur.Lineage] {
			rt.Fatalf("revoke: %v, %v", fresh, err)
		}
		w.dead[cur.Lineage] = true
	default:
		c.Parent = cur.Serial
		if what == "renew same key" {
			c.WireGuard = cur.WireGuard
		}
		out, err := w.s.Renew(ctx, c)
		if w.dead[cur.Lineage] {
			if !errors.Is(err, inventory.ErrConflict) {
				rt.Fatalf("a revoked lineage renewed: %v", err)
			}
			return
		}
		again, err2 := w.s.Renew(ctx, c)
		if err != nil || err2 != nil || out.Lineage != cur.Lineage || again.Serial != out.Serial {
			rt.Fatalf("renew: %+v, %v, again %+v, %v", out, err, again, err2)
		}
		w.current[device] = out
	}
}
