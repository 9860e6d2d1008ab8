package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/authority/provisioner"
	cas "github.com/smallstep/certificates/cas/apiv1"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/signer"
	"go.step.sm/crypto/jose"
)

// backdate is how far the validity of a certificate begins in the past: clocks
// of edges are off.
const backdate = 10 * time.Minute

// issuingCA is one issuing CA: an embedded smallstep authority with one
// provisioner, whose template fixes everything the caller does not name. It
// holds no key: the signer does, and checks once more.
type issuingCA struct {
	name      Issuer
	authority *authority.Authority
	ott       jose.Signer // mints the provisioner's one-time tokens
	audience  string
}

// leafTemplate is the smallstep template of a leaf. Names come from the
// one-time token alone; of the CSR only the public key is used.
func leafTemplate(usages []string) string {
	u, _ := json.Marshal(usages) // strings always marshal
	return `{"subject": {"commonName": {{ toJson .Subject.CommonName }}}, "sans": {{ toJson .SANs }}, "keyUsage": ["digitalSignature"], "extKeyUsage": ` + string(u) + `}`
}

type caOptions struct {
	name   Issuer
	domain string
	usages []string // names of smallstep's template language
	life   time.Duration
	db     *authDB
	cas    cas.CertificateAuthorityService
	root   *x509.Certificate
	issuer *x509.Certificate // the active generation's, for its name constraints
}

// newIssuingCA embeds an authority. The provisioner's key lives in this
// process only: its tokens carry our own decision to the authority, which
// checks the CSR against it once more (exact names, exact CSR, longest life).
func newIssuingCA(o caOptions) (*issuingCA, error) {
	c := &issuingCA{name: o.name}
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
		Options: &provisioner.Options{X509: &provisioner.X509Options{Template: leafTemplate(o.usages)}},
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
		authority.WithX509RootCerts(o.root),
		authority.WithX509IntermediateCerts(o.issuer),
		authority.WithX509CAService(o.cas),
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

// casOf is the signer as smallstep's authorities see it: the leaf that they
// have checked becomes an order for the issuer's template.
type casOf struct {
	pki    *PKI
	issuer Issuer
	kind   signer.Kind
}

// SigningService gives the signing process as a smallstep authority takes it
// (authority.WithX509CAService): certificates come from the active generation
// of the services issuer.
func (p *PKI) SigningService() cas.CertificateAuthorityService {
	return &casOf{pki: p, issuer: Services, kind: signer.ServiceLeaf}
}

// CreateCertificate implements [cas.CertificateAuthorityService].
func (c *casOf) CreateCertificate(req *cas.CreateCertificateRequest) (*cas.CreateCertificateResponse, error) {
	o := orderOf(req.Template, c.kind)
	if req.CSR != nil {
		o.CSR, o.PublicKey = req.CSR.Raw, nil
	}
	if o.NotAfter.IsZero() {
		o.NotAfter = time.Now().Add(req.Lifetime)
	}
	chain, err := c.sign(o)
	if err != nil {
		return nil, err
	}
	return &cas.CreateCertificateResponse{Certificate: chain[0], CertificateChain: chain[1:]}, nil
}

// RenewCertificate implements [cas.CertificateAuthorityService]; the caller has
// seen the key's possession in TLS.
func (c *casOf) RenewCertificate(req *cas.RenewCertificateRequest) (*cas.RenewCertificateResponse, error) {
	o := orderOf(req.Template, c.kind)
	if o.NotAfter.IsZero() {
		o.NotAfter = time.Now().Add(req.Lifetime)
	}
	chain, err := c.sign(o)
	if err != nil {
		return nil, err
	}
	return &cas.RenewCertificateResponse{Certificate: chain[0], CertificateChain: chain[1:]}, nil
}

// RevokeCertificate implements [cas.CertificateAuthorityService]: revocations
// are the store's.
func (c *casOf) RevokeCertificate(req *cas.RevokeCertificateRequest) (*cas.RevokeCertificateResponse, error) {
	return &cas.RevokeCertificateResponse{Certificate: req.Certificate}, nil
}

func (c *casOf) sign(o signer.Order) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return c.pki.issue(ctx, c.issuer, o)
}

// orderOf takes from a template what an order can say; everything else is the
// signer's.
func orderOf(t *x509.Certificate, kind signer.Kind) signer.Order {
	o := signer.Order{Kind: kind, Subject: t.Subject.CommonName, DNSNames: t.DNSNames, Emails: t.EmailAddresses, NotAfter: t.NotAfter}
	for _, u := range t.URIs {
		o.URIs = append(o.URIs, u.String())
	}
	for _, ip := range t.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			o.IPs = append(o.IPs, a)
		}
	}
	if t.PublicKey != nil {
		o.PublicKey, _ = x509.MarshalPKIXPublicKey(t.PublicKey) // what is empty the signer refuses
	}
	return o
}

// order is what a leaf shall say.
type order struct {
	csr       *x509.CertificateRequest
	subject   string   // common name
	sans      []string // exactly the CSR's
	life      time.Duration
	wireguard string // a device's public key, bound to the leaf
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
func (p *PKI) record(chain []*x509.Certificate, csr *x509.CertificateRequest, by string) (Certificate, error) {
	leaf := chain[0]
	if _, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok {
		return Certificate{}, fmt.Errorf("certificate %s has a %T, want ECDSA", enrol.SerialOf(leaf), leaf.PublicKey)
	}
	g, ok := p.issuers.Load().byRaw[string(chain[1].Raw)]
	if !ok {
		return Certificate{}, fmt.Errorf("certificate %s is of an issuer that is not known", enrol.SerialOf(leaf))
	}
	r := Certificate{
		Serial: enrol.SerialOf(leaf), Issuer: g.Issuer, IssuerKey: g.KeyID, Subject: leaf.Subject.CommonName,
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), IssuedAt: time.Now().UTC(), IssuedBy: by,
		CSRHash: enrol.CSRHash(csr), Chain: string(certPEM(chain...)),
	}
	if len(leaf.URIs) == 1 {
		r.SPIFFEID = leaf.URIs[0].String()
	}
	return r, nil
}

func certPEM(list ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return slices.Clip(out)
}
