// Package release describes one binary of the agent and proves where it comes
// from: version, platform, size and hash under a signature by the agent key. It
// is pure; the controller signs with it and the edge verifies.
package release

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"

	"github.com/wardnet/wardnet/inventory"
)

// MaxSize bounds a binary, in bytes.
const MaxSize = 64 << 20

// ErrUntrusted means that a release is not signed by a key this device pinned,
// or is not what was signed.
var ErrUntrusted = errors.New("release is not trusted")

var (
	versionText  = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}$`)
	platformText = regexp.MustCompile(`^[a-z0-9]{1,16}$`)
)

// Release is one binary of the agent. The zero value is none.
type Release struct {
	Version string `json:"version"` // as built in; letters, digits and ".+_-", at most 64
	GOOS    string `json:"goos"`    // as Go names it: "linux"
	GOARCH  string `json:"goarch"`  // "amd64", "arm64", …
	Size    int64  `json:"size_bytes"`
	SHA256  []byte `json:"sha256"` // of the binary
	// KeyID says which of the pinned agent keys signed; Signature is ASN.1 ECDSA
	// P-256 over SHA-256 of [Release.Payload].
	KeyID     string `json:"key_id"`
	Signature []byte `json:"signature"`
}

// Payload is what the signature covers. The first line keeps the signature from
// standing for anything else that an agent key may ever sign.
func (r Release) Payload() []byte {
	return fmt.Appendf(nil, "wardnet-agent-release/1\n%s\n%s\n%s\n%d\n%x\n", r.Version, r.GOOS, r.GOARCH, r.Size, r.SHA256)
}

// Validate reports every fault of the fields at once; the signature is not
// looked at. Errors wrap [inventory.ErrInvalid].
func (r Release) Validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: release: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	if !versionText.MatchString(r.Version) {
		fault("version %.80q is not 1 to 64 letters, digits and .+_-", r.Version)
	}
	if !platformText.MatchString(r.GOOS) || !platformText.MatchString(r.GOARCH) {
		fault("platform %.40q/%.40q is not a Go platform, such as linux/amd64", r.GOOS, r.GOARCH)
	}
	if r.Size <= 0 || r.Size > MaxSize {
		fault("size %d is not in 1 to %d bytes", r.Size, MaxSize)
	}
	if len(r.SHA256) != sha256.Size {
		fault("sha256 has %d bytes, not %d", len(r.SHA256), sha256.Size)
	}
	return errors.Join(errs...)
}

// Sign gives r with the signature of the agent key, which is ECDSA on P-256;
// keyID is how an edge finds the public half among those it pinned.
func (r Release) Sign(signer crypto.Signer, keyID string) (Release, error) {
	if err := r.Validate(); err != nil {
		return Release{}, fmt.Errorf("sign release: %w", err)
	}
	if !isP256(signer.Public()) {
		return Release{}, fmt.Errorf("%w: sign release %s: key %q is a %T; the agent key must be ECDSA P-256", inventory.ErrInvalid, r.Version, keyID, signer.Public())
	}
	sum := sha256.Sum256(r.Payload())
	sig, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return Release{}, fmt.Errorf("sign release %s: %w", r.Version, err)
	}
	r.KeyID, r.Signature = keyID, sig
	return r, nil
}

// Verify checks that r is whole and signed by one of keys (key id → ECDSA P-256
// public key). Errors wrap [inventory.ErrInvalid] or [ErrUntrusted].
func (r Release) Verify(keys map[string]crypto.PublicKey) error {
	if err := r.Validate(); err != nil {
		return err
	}
	key, ok := keys[r.KeyID]
	if !ok {
		return fmt.Errorf("%w: release %s is signed by key %.40q, which is not pinned here; enrol again if the controller's agent key was replaced", ErrUntrusted, r.Version, r.KeyID)
	}
	if !isP256(key) {
		return fmt.Errorf("%w: pinned key %.40q is a %T, not ECDSA P-256", ErrUntrusted, r.KeyID, key)
	}
	sum := sha256.Sum256(r.Payload())
	if !ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), sum[:], r.Signature) {
		return fmt.Errorf("%w: release %s: the signature by key %.12s does not verify", ErrUntrusted, r.Version, r.KeyID)
	}
	return nil
}

// Same says whether r and other are the same binary under the same version;
// signatures may differ.
func (r Release) Same(other Release) bool { return bytes.Equal(r.Payload(), other.Payload()) }

// String is the version with its platform.
func (r Release) String() string { return fmt.Sprintf("%s (%s/%s)", r.Version, r.GOOS, r.GOARCH) }

func isP256(key crypto.PublicKey) bool {
	k, ok := key.(*ecdsa.PublicKey)
	return ok && k.Curve == elliptic.P256()
}
