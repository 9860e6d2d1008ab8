package ocsp

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // a name of the issuer, not a signature: RFC 6960 §4.1.1
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// golang.org/x/crypto/ocsp writes no extensions of the whole answer and reads
// none of the request: the nonce is there. So the ASN.1 of RFC 6960 §4 is here;
// the tests compare it with that package and with OpenSSL.

// Bounds of a request.
const (
	maxIDs    = 16
	maxNonce  = 128 // bytes, RFC 9654 §2.1
	maxSerial = 20  // bytes, RFC 5280 §4.1.2.2
)

var (
	oidSHA1        = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidNonce       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidBasic       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidECDSASHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

type certID struct {
	Algorithm pkix.AlgorithmIdentifier
	NameHash  []byte
	KeyHash   []byte
	Serial    *big.Int
}

type wireRequest struct {
	TBS struct {
		Version    int              `asn1:"explicit,tag:0,default:0,optional"`
		Requestor  asn1.RawValue    `asn1:"explicit,tag:1,optional"`
		List       []wireSingle     `asn1:"sequence"`
		Extensions []pkix.Extension `asn1:"explicit,tag:2,optional"`
	}
	Signature asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type wireSingle struct {
	ID         certID
	Extensions []pkix.Extension `asn1:"explicit,tag:0,optional"`
}

// request is what is asked.
type request struct {
	ids   []certID // at least one
	nonce []byte   // the extension's value as it came, nil: none
}

// parseRequest reads a request; its signature, if any, is not looked at, for
// anybody may ask.
func parseRequest(der []byte) (request, error) {
	var w wireRequest
	rest, err := asn1.Unmarshal(der, &w)
	if err != nil || len(rest) > 0 {
		return request{}, errors.New("it is not an OCSP request")
	}
	if w.TBS.Version != 0 || len(w.TBS.List) == 0 || len(w.TBS.List) > maxIDs {
		return request{}, fmt.Errorf("it has version %d and %d questions", w.TBS.Version+1, len(w.TBS.List))
	}
	var q request
	for _, s := range w.TBS.List {
		if s.ID.Serial.Sign() < 0 || s.ID.Serial.BitLen() > 8*maxSerial {
			return request{}, errors.New("its serial number is none")
		}
		for _, e := range s.Extensions {
			if e.Critical {
				return request{}, fmt.Errorf("it has the critical extension %s", e.Id)
			}
		}
		q.ids = append(q.ids, s.ID)
	}
	for _, e := range w.TBS.Extensions {
		if !e.Id.Equal(oidNonce) {
			if e.Critical {
				return request{}, fmt.Errorf("it has the critical extension %s", e.Id)
			}
			continue
		}
		var nonce []byte
		if rest, err := asn1.Unmarshal(e.Value, &nonce); err != nil || len(rest) > 0 || len(nonce) == 0 || len(nonce) > maxNonce || q.nonce != nil {
			return request{}, errors.New("its nonce is none, or has over 128 bytes") // RFC 9654 §2.1
		}
		q.nonce = e.Value
	}
	return q, nil
}

func (id certID) hash() (crypto.Hash, error) {
	switch {
	case id.Algorithm.Algorithm.Equal(oidSHA1):
		return crypto.SHA1, nil
	case id.Algorithm.Algorithm.Equal(oidSHA256):
		return crypto.SHA256, nil
	}
	return 0, errNotOurs
}

// cacheKey tells kept answers apart: the answer repeats the question's id.
func (id certID) cacheKey() string {
	der, err := asn1.Marshal(id)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(der)
}

// hashes name an issuer (RFC 6960 §4.1.1).
func hashes(c *x509.Certificate, h crypto.Hash) (name, key []byte, err error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil, nil, fmt.Errorf("read the key of issuer %s: %w", c.Subject, err)
	}
	if h == crypto.SHA1 {
		n, k := sha1.Sum(c.RawSubject), sha1.Sum(spki.Key.RightAlign())
		return n[:], k[:], nil
	}
	n, k := sha256.Sum256(c.RawSubject), sha256.Sum256(spki.Key.RightAlign())
	return n[:], k[:], nil
}

type single struct {
	ID         certID
	Good       asn1.Flag   `asn1:"tag:0,optional"`
	Revoked    revokedInfo `asn1:"tag:1,optional"`
	Unknown    asn1.Flag   `asn1:"tag:2,optional"`
	ThisUpdate time.Time   `asn1:"generalized"`
	NextUpdate time.Time   `asn1:"generalized,explicit,tag:0,optional"`
}

type revokedInfo struct {
	At     time.Time       `asn1:"generalized"`
	Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
}

func singleOf(id certID, st Status, now time.Time) single {
	now = now.Truncate(time.Second)
	s := single{ID: id, ThisUpdate: now, NextUpdate: now.Add(answerLife)}
	switch st.State {
	case Good:
		s.Good = true
	case Revoked:
		s.Revoked = revokedInfo{st.At.UTC().Truncate(time.Second), asn1.Enumerated(st.Reason)}
	default:
		s.Unknown = true
	}
	return s
}

type responseData struct {
	Responder  asn1.RawValue
	ProducedAt time.Time `asn1:"generalized"`
	Responses  []single
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

type basicResponse struct {
	TBS          asn1.RawValue
	Algorithm    pkix.AlgorithmIdentifier
	Signature    asn1.BitString
	Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type wireResponse struct {
	Status asn1.Enumerated
	Bytes  struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	} `asn1:"explicit,tag:0,optional"`
}

// sign makes the answer (RFC 6960 §4.2.1). The responder is named by its key,
// the nonce is given back as it came.
func sign(list []single, nonce []byte, d *delegate, now time.Time) ([]byte, error) {
	_, keyHash, err := hashes(d.cert, crypto.SHA1) // RFC 6960 §4.2.1, ResponderID byKey
	if err != nil {
		return nil, err
	}
	octets, err := asn1.Marshal(keyHash)
	if err != nil {
		return nil, err
	}
	data := responseData{
		Responder:  asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, IsCompound: true, Bytes: octets},
		ProducedAt: now.Truncate(time.Second), Responses: list,
	}
	if nonce != nil {
		data.Extensions = []pkix.Extension{{Id: oidNonce, Value: nonce}}
	}
	tbs, err := asn1.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode an OCSP answer: %w", err)
	}
	sum := sha256.Sum256(tbs)
	signature, err := d.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign an OCSP answer: %w", err)
	}
	basic, err := asn1.Marshal(basicResponse{
		TBS: asn1.RawValue{FullBytes: tbs}, Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidECDSASHA256},
		Signature:    asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
		Certificates: []asn1.RawValue{{FullBytes: d.cert.Raw}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode an OCSP answer: %w", err)
	}
	var w wireResponse
	w.Bytes.Type, w.Bytes.Response = oidBasic, basic
	return asn1.Marshal(w)
}

// Errors of RFC 6960 §4.2.1.
const (
	malformedRequest = 1
	tryLater         = 3
	unauthorized     = 6
)

// failure is an answer without a signature.
func failure(status byte) []byte { return []byte{0x30, 3, 0x0a, 1, status} }
