package edge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// SignConfig binds cfg to its device and revision. The signer is the
// controller's revision key, ECDSA on P-256; keyID is how the edge finds the
// public half among those it pinned.
func SignConfig(cfg Config, revision uint64, signer crypto.Signer, keyID string) (Signed, error) {
	if revision == 0 {
		return Signed{}, fmt.Errorf("sign the config of %s: revision 0 means none; revisions count from 1", cfg.Device)
	}
	if !isP256(signer.Public()) {
		return Signed{}, fmt.Errorf("sign the config of %s: key %q is a %T; the revision key must be ECDSA P-256", cfg.Device, keyID, signer.Public())
	}
	s := Signed{Device: cfg.Device, Revision: revision, Hash: cfg.Hash(), Config: cfg, KeyID: keyID}
	sum := sha256.Sum256(s.Payload())
	sig, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return Signed{}, fmt.Errorf("sign the config of %s, revision %d: %w", cfg.Device, revision, err)
	}
	s.Signature = sig
	return s, nil
}

// Verify checks that the document is whole, is its device's own and was signed
// by one of keys (key id → ECDSA P-256 public key). Every error wraps
// [ErrRejected]. The caller still compares Device with its own name and
// Revision with the highest it confirmed.
func (s Signed) Verify(keys map[string]crypto.PublicKey) error {
	switch {
	case s.Revision == 0:
		return fmt.Errorf("%w: the document for %s has no revision", ErrRejected, s.Device)
	case s.Device == "" || s.Device != s.Config.Device:
		return fmt.Errorf("%w: the document is for %q, the config in it for %q", ErrRejected, s.Device, s.Config.Device)
	}
	if h := s.Config.Hash(); s.Hash != h {
		return fmt.Errorf("%w: revision %d for %s says hash %.12s, its config has %.12s", ErrRejected, s.Revision, s.Device, s.Hash, h)
	}
	key, ok := keys[s.KeyID]
	if !ok {
		return fmt.Errorf("%w: revision %d for %s is signed by key %q, which is not pinned here; enrol again if the controller's key was replaced", ErrRejected, s.Revision, s.Device, s.KeyID)
	}
	if !isP256(key) {
		return fmt.Errorf("%w: pinned key %q is a %T, not ECDSA P-256", ErrRejected, s.KeyID, key)
	}
	sum := sha256.Sum256(s.Payload())
	if !ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), sum[:], s.Signature) {
		return fmt.Errorf("%w: revision %d for %s: the signature by key %q does not verify", ErrRejected, s.Revision, s.Device, s.KeyID)
	}
	return nil
}

func isP256(key crypto.PublicKey) bool {
	k, ok := key.(*ecdsa.PublicKey)
	return ok && k.Curve == elliptic.P256()
}
