package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/wardnet/wardnet/pki/enrol"
)

// Purpose is what a signing key is for; a key signs nothing else.
type Purpose string

// Purposes of the signing keys.
const (
	RevisionKey    Purpose = "revision"     // intent revisions, approvals, device configs
	PolicyKey      Purpose = "policy"       // policy bundles
	AgentBinaryKey Purpose = "agent-binary" // upgrades of the edge agent
	CheckpointKey  Purpose = "checkpoint"   // log checkpoints and the signed time
)

// Purposes lists all of them.
var Purposes = []Purpose{RevisionKey, PolicyKey, AgentBinaryKey, CheckpointKey}

// Key is a signing key, ECDSA P-256. Devices pin its public half at enrolment.
type Key struct {
	ID     string // fingerprint, see [enrol.KeyID]
	Signer crypto.Signer
	Public *ecdsa.PublicKey
}

// Sign gives the ASN.1 ECDSA signature over the SHA-256 of payload.
func (k Key) Sign(payload []byte) ([]byte, error) {
	sum := sha256.Sum256(payload)
	sig, err := k.Signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign with key %.12s: %w", k.ID, err)
	}
	return sig, nil
}

// Verify reports whether sig is this key's signature over payload.
func (k Key) Verify(payload, sig []byte) bool {
	sum := sha256.Sum256(payload)
	return ecdsa.VerifyASN1(k.Public, sum[:], sig)
}

func newKey(k *ecdsa.PrivateKey) (Key, error) {
	id, err := enrol.KeyID(&k.PublicKey)
	return Key{ID: id, Signer: k, Public: &k.PublicKey}, err
}

func (k Key) publicPEM() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}
