// Package tpmkey keeps device keys in a TPM 2.0: a key is made there, wrapped
// by the owner's storage root key, and leaves the chip only wrapped, as the
// "TSS2 PRIVATE KEY" block that other TPM software reads too.
package tpmkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/pem"
	"fmt"
	"io"
	"sync"

	"github.com/google/go-tpm/legacy/tpm2"
	"go.step.sm/crypto/tpm/tss2"

	"github.com/wardnet/wardnet/inventory"
)

// blockType is the PEM type of a wrapped key (draft-woodhouse-cert-best-practice,
// Appendix A).
const blockType = "TSS2 PRIVATE KEY"

// template is a P-256 key that signs, cannot be duplicated and was made in the
// chip.
var template = tpm2.Public{
	Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256,
	Attributes: tpm2.FlagSign | tpm2.FlagFixedTPM | tpm2.FlagFixedParent | tpm2.FlagSensitiveDataOrigin | tpm2.FlagUserWithAuth | tpm2.FlagNoDA,
	ECCParameters: &tpm2.ECCParams{
		Sign:    &tpm2.SigScheme{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256},
		CurveID: tpm2.CurveNISTP256,
	},
}

// Store is a TPM as a keystore; see [github.com/wardnet/wardnet/pki/enrol.Keystore].
// It is safe for concurrent use.
type Store struct {
	path string
	mu   sync.Mutex // one command sequence at a time
}

// Open checks that a TPM 2.0 answers at path: a device, best the kernel's
// resource manager /dev/tpmrm0, or the unix socket of an emulator.
func Open(path string) (*Store, error) {
	s := &Store{path: path}
	return s, s.with(func(io.ReadWriter) error { return nil })
}

// with opens the TPM for one sequence of commands.
func (s *Store) with(do func(io.ReadWriter) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rw, err := tpm2.OpenTPM(s.path)
	if err != nil {
		return fmt.Errorf("open the TPM at %s: %w", s.path, err)
	}
	defer rw.Close()
	if err := do(rw); err != nil {
		return fmt.Errorf("TPM at %s: %w", s.path, err)
	}
	return nil
}

// Make makes a key in the TPM.
func (s *Store) Make() (ref string, key crypto.Signer, err error) {
	var text []byte
	err = s.with(func(rw io.ReadWriter) error {
		srk, _, err := tpm2.CreatePrimary(rw, tpm2.HandleOwner, tpm2.PCRSelection{}, "", "", tss2.ECCSRKTemplate)
		if err != nil {
			return fmt.Errorf("make the storage root key: %w", err)
		}
		defer tpm2.FlushContext(rw, srk) //nolint:errcheck // the connection ends next
		private, public, _, _, _, err := tpm2.CreateKey(rw, srk, tpm2.PCRSelection{}, "", "", template)
		if err != nil {
			return fmt.Errorf("make the device key: %w", err)
		}
		text, err = tss2.EncodeToMemory(public, private)
		return err
	})
	if err != nil {
		return "", nil, err
	}
	key, err = s.Open(string(text))
	return string(text), key, err
}

// Open gives the key that ref wraps; one of another TPM shows at the first
// signature.
func (s *Store) Open(ref string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(ref))
	if block == nil || block.Type != blockType {
		return nil, fmt.Errorf("%w: the device key is not one of a TPM; enrol the device again, or start without the TPM", inventory.ErrInvalid)
	}
	wrapped, err := tss2.ParsePrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: the device key is damaged: %w", inventory.ErrInvalid, err)
	}
	pub, err := wrapped.Public()
	if err != nil {
		return nil, fmt.Errorf("%w: the device key is damaged: %w", inventory.ErrInvalid, err)
	}
	if k, ok := pub.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: the device key in the TPM is a %T, want ECDSA P-256", inventory.ErrInvalid, pub)
	}
	return &key{s, wrapped, pub}, nil
}

// Forget has nothing to do: the TPM keeps no wrapped key.
func (*Store) Forget(string) error { return nil }

type key struct {
	store   *Store
	wrapped *tss2.TPMKey
	pub     crypto.PublicKey
}

func (k *key) Public() crypto.PublicKey { return k.pub }

// Sign gives an ASN.1 ECDSA signature of a SHA-256 digest.
func (k *key) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) (sig []byte, err error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, fmt.Errorf("the device key in the TPM signs SHA-256 only, not %s", opts.HashFunc())
	}
	err = k.store.with(func(rw io.ReadWriter) error {
		signer, err := tss2.CreateSigner(rw, k.wrapped)
		if err != nil {
			return err
		}
		signer.SetSRKTemplate(tss2.ECCSRKTemplate)
		sig, err = signer.Sign(random, digest, opts)
		return err
	})
	return sig, err
}
