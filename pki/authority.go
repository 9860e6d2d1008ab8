package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/wardnet/wardnet/pki/enrol"
	"go.step.sm/crypto/jose"
)

// issuingCA is one issuing CA: an embedded smallstep authority with one
// provisioner, whose template fixes everything the caller does not name.
type issuingCA struct {
	name      Issuer
	cert      *x509.Certificate
	signer    crypto.Signer
	keyID     string
	crlURL    string // "" when no status listener is known
	authority *authority.Authority
	ott       jose.Signer // mints the provisioner's one-time tokens
	audience  string
}

// leafTemplate is the smallstep template of a leaf. Names come from the
// one-time token alone; of the CSR only the public key is used.
func leafTemplate(usages []string, crlURL string) string {
	u, _ := json.Marshal(usages) // strings always marshal
	crl := ""
	if crlURL != "" {
		q, _ := json.Marshal([]string{crlURL})
		crl = `, "crlDistributionPoints": ` + string(q)
	}
	return `{"subject": {"commonName": {{ toJson .Subject.CommonName }}}, "sans": {{ toJson .SANs }}, "keyUsage": ["digitalSignature"], "extKeyUsage": ` + string(u) + crl + `}`
}

type caOptions struct {
	name    Issuer
	domain  string
	usages  []string // names of smallstep's template language
	life    time.Duration
	crlBase string
	db      *authDB
}

// newIssuingCA embeds an authority. The provisioner's key lives in this
// process only: its tokens carry our own decision to the authority, which
// checks the CSR against it once more (exact names, exact CSR, longest life).
func newIssuingCA(o caOptions, ca *caFiles) (*issuingCA, error) {
	c := &issuingCA{name: o.name, cert: ca.certs[o.name], signer: ca.signers[o.name]}
	var err error
	if c.keyID, err = enrol.KeyID(c.cert.PublicKey); err != nil {
		return nil, err
	}
	if o.crlBase != "" {
		c.crlURL = o.crlBase + crlPath(c.keyID)
	}
	key, err := enrol.NewKey()
	if err != nil {
		return nil, err
	}
	host := "ca." + o.domain
	c.audience = "https://" + host + "/1.0/sign"
	private := jose.JSONWebKey{Key: key, KeyID: string(o.name), Algorithm: jose.ES256, Use: "sig"}
	public := private
	public.Key = &key.PublicKey
	if c.ott, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, (&jose.SignerOptions{}).WithType("JWT")); err != nil {
		return nil, fmt.Errorf("provisioner of the %s CA: %w", o.name, err)
	}
	yes := true
	p := &provisioner.JWK{
		Type: "JWK", Name: string(o.name), Key: &public,
		Claims: &provisioner.Claims{
			MinTLSDur:                  &provisioner.Duration{Duration: time.Second},
			MaxTLSDur:                  &provisioner.Duration{Duration: o.life + time.Second}, // validity is cut to seconds
			DefaultTLSDur:              &provisioner.Duration{Duration: o.life},
			DisableRenewal:             &yes, // ours alone: it keeps the lineage
			DisableSmallstepExtensions: &yes,
		},
		Options: &provisioner.Options{X509: &provisioner.X509Options{Template: leafTemplate(o.usages, c.crlURL)}},
	}
	c.authority, err = authority.NewEmbedded(
		authority.WithConfig(&config.Config{
			DNSNames: []string{host},
			AuthorityConfig: &config.AuthConfig{
				Provisioners: provisioner.List{p},
				Backdate:     &provisioner.Duration{Duration: min(backdate, o.life/10).Truncate(time.Second)},
			},
		}),
		authority.WithQuietInit(),
		authority.WithDatabase(o.db),
		authority.WithX509RootCerts(ca.root),
		authority.WithX509IntermediateCerts(c.cert),
		authority.WithX509SignerFunc(func() ([]*x509.Certificate, crypto.Signer, error) {
			return []*x509.Certificate{c.cert}, c.signer, nil
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("start the %s CA: %w", o.name, err)
	}
	loaded, err := c.authority.LoadProvisionerByName(string(o.name))
	if err != nil {
		return nil, fmt.Errorf("start the %s CA: %w", o.name, err)
	}
	if broken, ok := loaded.(provisioner.Uninitialized); ok { // the authority only prints it
		return nil, fmt.Errorf("start the %s CA: %w", o.name, broken.Reason)
	}
	return c, nil
}

// order is what a leaf shall say.
type order struct {
	csr     *x509.CertificateRequest
	subject string   // common name
	sans    []string // exactly the CSR's
	life    time.Duration
}

// sign issues a leaf; the chain starts with it.
func (c *issuingCA) sign(ctx context.Context, o order) ([]*x509.Certificate, error) {
	now := time.Now()
	ott, err := c.mint(o, now)
	if err != nil {
		return nil, err
	}
	ctx = provisioner.NewContextWithMethod(ctx, provisioner.SignMethod)
	// This token was made a moment ago and leaves the process never: keeping
	// its id would cost a durable write per certificate and protect nothing.
	ctx = authority.NewContextWithSkipTokenReuse(ctx)
	opts, err := c.authority.Authorize(ctx, ott)
	if err != nil {
		return nil, fmt.Errorf("authorise a certificate of the %s CA: %w", c.name, err)
	}
	chain, err := c.authority.SignWithContext(ctx, o.csr, provisioner.SignOptions{
		NotAfter: provisioner.NewTimeDuration(now.Add(o.life)),
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate of the %s CA: %w", c.name, err)
	}
	return chain, nil
}

// mint makes the provisioner's one-time token for o, bound to the CSR.
func (c *issuingCA) mint(o order, now time.Time) (string, error) {
	sum := sha256.Sum256(o.csr.Raw)
	ott, err := jose.Signed(c.ott).Claims(jose.Claims{
		ID: uuid.NewString(), Issuer: string(c.name), Subject: o.subject, Audience: jose.Audience{c.audience},
		IssuedAt: jose.NewNumericDate(now), NotBefore: jose.NewNumericDate(now), Expiry: jose.NewNumericDate(now.Add(time.Minute)),
	}).Claims(map[string]any{
		"sans": o.sans,
		"cnf":  map[string]string{"x5rt#S256": base64.RawURLEncoding.EncodeToString(sum[:])},
	}).CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("mint a one-time token of the %s CA: %w", c.name, err)
	}
	return ott, nil
}

// record makes the row of a signed leaf.
func (c *issuingCA) record(chain []*x509.Certificate, csr *x509.CertificateRequest, by string) (Certificate, error) {
	leaf := chain[0]
	if _, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok {
		return Certificate{}, fmt.Errorf("certificate %s has a %T, want ECDSA", enrol.SerialOf(leaf), leaf.PublicKey)
	}
	r := Certificate{
		Serial: enrol.SerialOf(leaf), Issuer: c.name, IssuerKey: c.keyID, Subject: leaf.Subject.CommonName,
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), IssuedAt: time.Now().UTC(), IssuedBy: by,
		CSRHash: enrol.CSRHash(csr), Chain: string(certPEM(chain...)),
	}
	if len(leaf.URIs) == 1 {
		r.SPIFFEID = leaf.URIs[0].String()
	}
	return r, nil
}
