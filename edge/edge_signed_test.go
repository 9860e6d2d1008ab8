package edge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestSignVerify(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	big, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := SignConfig(ward(), 7, key, "rev-1")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.PublicKey{"rev-1": key.Public(), "rev-0": big.Public()}
	for name, tt := range map[string]struct {
		edit func(*Signed)
		want string // substring of the error; "" means good
	}{
		"as it travelled":  {func(*Signed) {}, ""},
		"other revision":   {func(s *Signed) { s.Revision++ }, "does not verify"},
		"no revision":      {func(s *Signed) { s.Revision = 0 }, "no revision"},
		"other device":     {func(s *Signed) { s.Device = "e-1" }, `is for "e-1", the config in it for "e-26740"`},
		"config of other":  {func(s *Signed) { s.Device, s.Config.Device = "e-1", "e-1" }, "says hash"},
		"config changed":   {func(s *Signed) { s.Config.Rules = nil }, "says hash"},
		"config and hash":  {func(s *Signed) { s.Config.Rules = nil; s.Hash = s.Config.Hash() }, "does not verify"},
		"unknown key":      {func(s *Signed) { s.KeyID = "rev-2" }, "not pinned"},
		"key of bad kind":  {func(s *Signed) { s.KeyID = "rev-0" }, "not ECDSA P-256"},
		"no signature":     {func(s *Signed) { s.Signature = nil }, "does not verify"},
		"empty":            {func(s *Signed) { *s = Signed{} }, "no revision"},
		"broken signature": {func(s *Signed) { s.Signature[8] ^= 1 }, "does not verify"},
	} {
		t.Run(name, func(t *testing.T) {
			var s Signed
			if err := json.Unmarshal(b, &s); err != nil {
				t.Fatal(err)
			}
			tt.edit(&s)
			err := s.Verify(keys)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("Verify() = %v", err)
			case tt.want != "" && (!errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("Verify() = %v, want ErrRejected with %q", err, tt.want)
			}
		})
	}

	if _, err := SignConfig(ward(), 0, key, "rev-1"); err == nil {
		t.Error("revision 0 was signed")
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SignConfig(ward(), 1, ed, "rev-1"); err == nil {
		t.Error("an Ed25519 key was taken for a revision key")
	}
}
