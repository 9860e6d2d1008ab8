package signer

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// rootCRLLife is the life of a root's list: its key is far away.
const rootCRLLife = 400 * 24 * time.Hour

// signCRL builds and signs a revocation list (RFC 5280 §5).
func signCRL(issuer *x509.Certificate, key crypto.Signer, o CRLOrder, now time.Time) ([]byte, error) {
	t := &x509.RevocationList{
		Number: new(big.Int).SetUint64(o.Number), ThisUpdate: now.Add(-backdate).UTC(), NextUpdate: now.Add(o.Life).UTC(),
	}
	for _, e := range o.Entries {
		serial, ok := new(big.Int).SetString(e.Serial, 16)
		if !ok || serial.Sign() <= 0 || e.At.IsZero() {
			return nil, fmt.Errorf("%w: CRL entry %q of %s names no certificate or no time", inventory.ErrInvalid, e.Serial, e.At)
		}
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: e.At.UTC(), ReasonCode: e.Reason})
	}
	if o.URL != "" {
		point, err := distributionPoint(o.URL)
		if err != nil {
			return nil, err
		}
		t.ExtraExtensions = []pkix.Extension{point}
	}
	return x509.CreateRevocationList(rand.Reader, t, issuer, key)
}

// distributionPoint is the issuing distribution point (RFC 5280 §5.2.5). It
// equals the leaf's CRL distribution point byte for byte; OpenSSL takes
// anything else as a CRL of another scope.
func distributionPoint(url string) (pkix.Extension, error) {
	type name struct {
		FullName []asn1.RawValue `asn1:"optional,tag:0"`
	}
	type point struct {
		Name name `asn1:"optional,tag:0"`
	}
	der, err := asn1.Marshal(point{Name: name{FullName: []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(url)}}}})
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encode CRL distribution point: %w", err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: der}, nil
}
