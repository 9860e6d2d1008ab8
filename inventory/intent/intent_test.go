package intent_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/inventory/sample"
)

var now = time.Date(2026, 11, 22, 4, 0, 0, 123456789, time.UTC)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(t *testing.T, key *ecdsa.PrivateKey) intent.Revision {
	t.Helper()
	city := sample.City()
	r, err := intent.Sign(intent.Revision{Number: 2, Author: "an", At: now, Content: city, Envelope: intent.EnvelopeOf(city)}, key, "rev-1")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A revision survives its way through JSON, the form it is stored and sent in.
func TestRevisionSurvivesJSON(t *testing.T) {
	key := newKey(t)
	r := signed(t, key)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back intent.Revision
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if err := intent.Verify(back, &key.PublicKey); err != nil {
		t.Error(err)
	}
	if back.Org != "hcmc" || back.KeyID != "rev-1" {
		t.Errorf("org %q, key %q", back.Org, back.KeyID)
	}
}

// The order in which an inventory lists things does not change its hash.
func TestHashIgnoresOrder(t *testing.T) {
	city := sample.City()
	want, err := intent.ContentHash(intent.Revision{Number: 1, Content: city})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		mixed := city
		mixed.Sites = rapid.Permutation(city.Sites[:8]).Draw(t, "sites")
		mixed.Sites = append(mixed.Sites, city.Sites[8:]...)
		got, err := intent.ContentHash(intent.Revision{Number: 1, Content: mixed})
		if err != nil || got != want {
			t.Fatalf("hash %s, want %s (%v)", got, want, err)
		}
	})
}

// Whatever is changed after signing is noticed, and so is another key.
func TestVerifyRefusesChanges(t *testing.T) {
	key := newKey(t)
	for name, alter := range map[string]func(*intent.Revision){
		"number":    func(r *intent.Revision) { r.Number++ },
		"author":    func(r *intent.Revision) { r.Author = "binh" },
		"org":       func(r *intent.Revision) { r.Org = "hanoi" },
		"content":   func(r *intent.Revision) { r.Content.Permits[0].From = []inventory.SegmentKind{inventory.Public} },
		"envelope":  func(r *intent.Revision) { r.Envelope.GrantsPerSite++ },
		"signature": func(r *intent.Revision) { r.Signature[10] ^= 1 },
		"hash":      func(r *intent.Revision) { r.Hash = strings.Repeat("0", 64) },
	} {
		t.Run(name, func(t *testing.T) {
			r := signed(t, key)
			alter(&r)
			if err := intent.Verify(r, &key.PublicKey); !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("got %v, want a refusal", err)
			}
		})
	}
	if err := intent.Verify(signed(t, key), &newKey(t).PublicKey); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a foreign key: %v", err)
	}
	if err := intent.Verify(signed(t, key), nil); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("no key: %v", err)
	}
}

func TestSignRefusesTheIncomplete(t *testing.T) {
	for name, r := range map[string]intent.Revision{
		"no number":    {Author: "an"},
		"no author":    {Number: 1},
		"foreign org":  {Number: 1, Author: "an", Org: "hanoi", Content: inventory.Inventory{Org: "hcmc"}},
		"nothing else": {},
	} {
		if _, err := intent.Sign(r, newKey(t), "k"); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One good approval is enough; every bad one says why it is not.
func TestApproved(t *testing.T) {
	key := newKey(t)
	r := signed(t, key)
	good := intent.Approval{Revision: 2, Hash: r.Hash, Approver: "binh", At: now, Expires: now.Add(time.Hour), Comment: "đã xem"}
	sign := func(a intent.Approval) intent.Approval {
		t.Helper()
		a, err := intent.SignApproval(a, key, "rev-1")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if err := intent.Approved(r, []intent.Approval{sign(good)}, now, &key.PublicKey); err != nil {
		t.Error(err)
	}
	for name, tt := range map[string]struct {
		alter func(*intent.Approval)
		late  bool // altered after it was signed
		want  string
	}{
		"own":            {func(a *intent.Approval) { a.Approver = "an" }, false, "another person must approve"},
		"other revision": {func(a *intent.Approval) { a.Revision = 1 }, false, "names revision 1"},
		"other hash":     {func(a *intent.Approval) { a.Hash = "abc" }, false, "(abc)"},
		"expired":        {func(a *intent.Approval) { a.At, a.Expires = now.Add(-2*time.Hour), now }, false, "expired"},
		"forged":         {func(a *intent.Approval) { a.Approver = "chi" }, true, "is not signed by key"},
		"prolonged":      {func(a *intent.Approval) { a.Expires = now.Add(time.Hour * 24 * 365) }, true, "is not signed by key"},
	} {
		t.Run(name, func(t *testing.T) {
			a := good
			if !tt.late {
				tt.alter(&a)
			}
			if a = sign(a); tt.late {
				tt.alter(&a)
			}
			err := intent.Approved(r, []intent.Approval{a}, now, &key.PublicKey)
			if !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if err := intent.Approved(r, nil, now, &key.PublicKey); err == nil || !strings.Contains(err.Error(), "has no approval") {
		t.Errorf("none: %v", err)
	}
	if _, err := intent.SignApproval(intent.Approval{Revision: 1, Hash: "x", Approver: "y", At: now, Expires: now}, key, "k"); err == nil {
		t.Error("an approval that never holds was signed")
	}
	if intent.ApprovalRequired(r, 0) || !intent.ApprovalRequired(r, 1) {
		t.Error("only the first revision goes without an approval")
	}
}

func TestEnvelopeOf(t *testing.T) {
	city := sample.City()
	city.Devices[3].Intended = inventory.Retired
	e := intent.EnvelopeOf(city)
	if len(e.Peers) != 207 || slices.Contains(e.Peers, city.Devices[3].ID) || !slices.IsSorted(e.Peers) {
		t.Errorf("%d peers", len(e.Peers))
	}
	for _, s := range city.Sites {
		if s.People*len(city.Applications) > e.GrantsPerSite {
			t.Errorf("%s needs %d grants, the envelope has %d", s.ID, s.People*len(city.Applications), e.GrantsPerSite)
		}
	}
}
