//go:build pkcs11

// Package p11key keeps device keys in a PKCS #11 token. It needs cgo and the
// build tag pkcs11.
package p11key

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/wardnet/wardnet/inventory"
)

// Config says which token.
type Config struct {
	Module  string // path of the PKCS #11 library
	Token   string // its label
	PINFile string // file with the user PIN, for its owner alone
}

// Store is a token as a keystore; see
// [github.com/wardnet/wardnet/pki/enrol.Keystore]. It is safe for concurrent
// use.
type Store struct {
	mu      sync.Mutex // one session, one operation at a time
	ctx     *pkcs11.Ctx
	session pkcs11.SessionHandle
	token   string
}

// label is what our keys are called in the token.
const label = "wardnet device key"

// curve is P-256 as CKA_EC_PARAMS wants it.
var curve = func() []byte {
	der, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		panic(err) // a constant
	}
	return der
}()

// Open logs in to the token. Close it.
func Open(c Config) (*Store, error) {
	info, err := os.Stat(c.PINFile)
	if err != nil {
		return nil, fmt.Errorf("PIN of the token %s: %w", c.Token, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: the PIN file %s may be read by others (mode %04o); run chmod 600 on it", inventory.ErrInvalid, c.PINFile, info.Mode().Perm())
	}
	pin, err := os.ReadFile(c.PINFile)
	if err != nil {
		return nil, fmt.Errorf("PIN of the token %s: %w", c.Token, err)
	}
	ctx := pkcs11.New(c.Module)
	if ctx == nil {
		return nil, fmt.Errorf("%w: %s cannot be loaded as a PKCS #11 library", inventory.ErrInvalid, c.Module)
	}
	s := &Store{ctx: ctx, token: c.Token}
	if err := s.login(strings.TrimSpace(string(pin))); err != nil {
		ctx.Destroy()
		return nil, fmt.Errorf("token %s of %s: %w", c.Token, c.Module, err)
	}
	return s, nil
}

func (s *Store) login(pin string) error {
	if err := s.ctx.Initialize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return fmt.Errorf("initialise: %w", err)
	}
	slots, err := s.ctx.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("list slots: %w", err)
	}
	for _, slot := range slots {
		info, err := s.ctx.GetTokenInfo(slot)
		if err != nil || strings.TrimRight(info.Label, " \x00") != s.token {
			continue
		}
		if s.session, err = s.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
			return fmt.Errorf("open a session: %w", err)
		}
		if err := s.ctx.Login(s.session, pkcs11.CKU_USER, pin); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
			return fmt.Errorf("log in: %w", err)
		}
		return nil
	}
	return fmt.Errorf("%w: there is no token of that label", inventory.ErrNotFound)
}

// Close logs out.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.ctx.CloseSession(s.session)
	return errors.Join(err, s.ctx.Finalize())
}

// Make makes a key in the token that is never extractable.
func (s *Store) Make() (ref string, key crypto.Signer, err error) {
	var id [16]byte
	rand.Read(id[:]) //nolint:errcheck // never fails, crypto/rand
	s.mu.Lock()
	_, _, err = s.ctx.GenerateKeyPair(s.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, curve), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
			pkcs11.NewAttribute(pkcs11.CKA_ID, id[:]), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_ID, id[:]), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		})
	s.mu.Unlock()
	if err != nil {
		return "", nil, fmt.Errorf("make a key in token %s: %w", s.token, err)
	}
	ref = s.reference(id[:])
	key, err = s.Open(ref)
	return ref, key, err
}

// reference is a PKCS #11 URI (RFC 7512 §2.3).
func (s *Store) reference(id []byte) string {
	var b strings.Builder
	for _, c := range id {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return "pkcs11:token=" + url.PathEscape(s.token) + ";id=" + b.String() + ";type=private"
}

// keyID reads a reference of this token.
func (s *Store) keyID(ref string) ([]byte, error) {
	rest, ok := strings.CutPrefix(ref, "pkcs11:token="+url.PathEscape(s.token)+";id=")
	text, _, end := strings.Cut(rest, ";")
	if !ok || !end {
		return nil, fmt.Errorf("%w: the device key is not one of token %s; enrol the device again, or start with its own keystore", inventory.ErrInvalid, s.token)
	}
	id, err := hex.DecodeString(strings.ReplaceAll(text, "%", ""))
	if err != nil {
		return nil, fmt.Errorf("%w: the reference of the device key is damaged", inventory.ErrInvalid)
	}
	return id, nil
}

// find gives the object of a class with that id; s.mu is held.
func (s *Store) find(class uint, id []byte) (pkcs11.ObjectHandle, error) {
	if err := s.ctx.FindObjectsInit(s.session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_ID, id)}); err != nil {
		return 0, err
	}
	list, _, err := s.ctx.FindObjects(s.session, 1)
	if err := errors.Join(err, s.ctx.FindObjectsFinal(s.session)); err != nil {
		return 0, err
	}
	if len(list) == 0 {
		return 0, fmt.Errorf("%w: token %s has no such key", inventory.ErrNotFound, s.token)
	}
	return list[0], nil
}

// Open finds the key behind ref.
func (s *Store) Open(ref string) (crypto.Signer, error) {
	id, err := s.keyID(ref)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &key{store: s}
	if k.private, err = s.find(pkcs11.CKO_PRIVATE_KEY, id); err != nil {
		return nil, fmt.Errorf("find the device key: %w", err)
	}
	public, err := s.find(pkcs11.CKO_PUBLIC_KEY, id)
	if err != nil {
		return nil, fmt.Errorf("find the device key: %w", err)
	}
	attrs, err := s.ctx.GetAttributeValue(s.session, public, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil)})
	if err != nil {
		return nil, fmt.Errorf("read the device key: %w", err)
	}
	var point []byte
	if rest, err := asn1.Unmarshal(attrs[0].Value, &point); err != nil || len(rest) > 0 || !bytes.Equal(attrs[1].Value, curve) {
		return nil, fmt.Errorf("%w: the key in token %s is not ECDSA P-256", inventory.ErrInvalid, s.token)
	}
	if k.pub, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil {
		return nil, fmt.Errorf("%w: the key in token %s: %w", inventory.ErrInvalid, s.token, err)
	}
	return k, nil
}

// Forget destroys both halves of the key.
func (s *Store) Forget(ref string) error {
	id, err := s.keyID(ref)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		switch o, err := s.find(class, id); {
		case errors.Is(err, inventory.ErrNotFound):
		case err != nil:
			return fmt.Errorf("remove a key from token %s: %w", s.token, err)
		default:
			if err := s.ctx.DestroyObject(s.session, o); err != nil {
				return fmt.Errorf("remove a key from token %s: %w", s.token, err)
			}
		}
	}
	return nil
}

type key struct {
	store   *Store
	private pkcs11.ObjectHandle
	pub     *ecdsa.PublicKey
}

func (k *key) Public() crypto.PublicKey { return k.pub }

// Sign gives an ASN.1 ECDSA signature of a SHA-256 digest.
func (k *key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, fmt.Errorf("the device key in token %s signs SHA-256 only, not %s", k.store.token, opts.HashFunc())
	}
	k.store.mu.Lock()
	defer k.store.mu.Unlock()
	c, s := k.store.ctx, k.store.session
	if err := c.SignInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, k.private); err != nil {
		return nil, fmt.Errorf("sign in token %s: %w", k.store.token, err)
	}
	raw, err := c.Sign(s, digest)
	if err != nil {
		return nil, fmt.Errorf("sign in token %s: %w", k.store.token, err)
	}
	if len(raw) != 64 {
		return nil, fmt.Errorf("token %s gave a signature of %d bytes", k.store.token, len(raw))
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
}
