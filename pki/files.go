package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/signer"
)

// openCA finds the signer's CA, ties the database to its root for ever, and
// puts the issuers in force. On the first start signing keys are made, and
// where the signer is in this process its CA too.
func (p *PKI) openCA(ctx context.Context) (*x509.Certificate, error) {
	dir := filepath.Join(p.deps.Dir, "ca")
	fail := func(err error) (*x509.Certificate, error) { return nil, fmt.Errorf("open CA: %w", err) }
	known, err := p.deps.Store.Root(ctx)
	if err != nil {
		return fail(err)
	}
	if p.signer == nil {
		if p.signer, err = p.ownSigner(ctx, dir, known); err != nil {
			return nil, err
		}
	}
	st, err := p.signer.State(ctx)
	if err != nil {
		return fail(err)
	}
	root, err := x509.ParseCertificate(st.Root)
	if err != nil {
		return fail(err)
	}
	if len(root.URIs) != 1 || root.URIs[0].Host != p.cfg.TrustDomain {
		return fail(fmt.Errorf("%w: the CA in %s is not for trust domain %q; set pki.trust_domain to the CA's", inventory.ErrInvalid, dir, p.cfg.TrustDomain))
	}
	if p.rootID, err = enrol.KeyID(root.PublicKey); err != nil {
		return fail(err)
	}
	p.root = certPEM(root)
	if err := p.openKeys(dir, known == ""); err != nil {
		return nil, err
	}
	if p.sshUser, err = ssh.ParsePublicKey(st.SSHUser); err != nil {
		return fail(err)
	}
	if p.sshHost, err = ssh.ParsePublicKey(st.SSHHost); err != nil {
		return fail(err)
	}
	if err := p.deps.Store.BindRoot(ctx, p.rootID); err != nil {
		return nil, fmt.Errorf("open CA in %s: %w", dir, err)
	}
	if err := p.bootstrapIssuers(ctx, st); err != nil {
		return nil, err
	}
	if err := p.loadIssuers(ctx); err != nil {
		return nil, err
	}
	return root, p.retireKeys(ctx, p.issuers.Load())
}

// SignerConfig is what a signer of this PKI is bounded by.
func (c Config) SignerConfig() (signer.Config, error) {
	c, err := c.withDefaults()
	if err != nil {
		return signer.Config{}, err
	}
	return signer.Config{
		Domain: c.TrustDomain, DeviceLife: max(c.DeviceTTL, 7*24*time.Hour), ServerLife: max(c.ServerTTL, 30*24*time.Hour), Names: c.names(),
	}, nil
}

// names are all names of the controller, as text.
func (c Config) names() []string {
	out := slices.Clone(c.DNSNames)
	for _, a := range c.IPs {
		out = append(out, a.Unmap().String())
	}
	return out
}

// ownSigner opens the keys in this process, made first when neither the files
// nor the database know of a CA.
func (p *PKI) ownSigner(ctx context.Context, dir, known string) (Signer, error) {
	there, err := signer.Exists(dir)
	switch {
	case err != nil:
		return nil, fmt.Errorf("open CA: %w", err)
	case !there && known != "":
		return nil, MissingCA(dir, known)
	case !there:
		if err := signer.Create(dir, p.cfg.TrustDomain, time.Now()); err != nil {
			return nil, err
		}
		p.deps.Log.InfoContext(ctx, "certificate authority created", "dir", dir)
	}
	cfg, err := p.cfg.SignerConfig()
	if err != nil {
		return nil, err
	}
	return signer.Open(dir, cfg, time.Now())
}

// MissingCA is the error of a database whose CA's files are gone: a new CA
// would lock every device out.
func MissingCA(dir, known string) error {
	return fmt.Errorf("open CA: %w: the database belongs to root key %.12s, but %s is missing; restore it from a backup (a new CA would lock every device out)", inventory.ErrConflict, known, dir)
}

// openKeys loads the signing keys by purpose; missing ones are made where the
// database knows no CA yet. Later a missing key is an error: devices have
// pinned it.
func (p *PKI) openKeys(dir string, first bool) error {
	var errs []error
	for _, purpose := range Purposes {
		if first && !signer.HasKey(dir, string(purpose)) {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fmt.Errorf("make the %s key: %w", purpose, err)
			}
			if err := signer.MakeKey(dir, string(purpose)); err != nil {
				return fmt.Errorf("make the %s key: %w", purpose, err)
			}
		}
		k, err := signer.LoadKey(dir, string(purpose))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		key, err := newKey(k)
		if err != nil {
			return err
		}
		text, err := key.publicPEM()
		if err != nil {
			return err
		}
		p.keys[purpose], p.pinned[string(purpose)] = key, []string{text}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("load the signing keys: %w", err)
	}
	return nil
}
