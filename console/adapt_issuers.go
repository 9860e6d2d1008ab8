package console

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/signer"
)

// IssuingCAs is [Issuers] over the PKI.
type IssuingCAs struct{ pki *pki.PKI }

// AdaptIssuers serves the issuing CAs of p.
func AdaptIssuers(p *pki.PKI) *IssuingCAs { return &IssuingCAs{p} }

// Issuers implements [Issuers].
func (a *IssuingCAs) Issuers(ctx context.Context) ([]client.Issuer, error) {
	list, err := a.pki.Rotations(ctx)
	if err != nil {
		return nil, signerProblem(err)
	}
	out := make([]client.Issuer, len(list))
	for i, s := range list {
		out[i] = issuerOf(s)
	}
	return out, nil
}

func issuerOf(s pki.RotationStatus) client.Issuer {
	out := client.Issuer{Issuer: string(s.Issuer), Next: string(s.Next), Held: s.Held, Behind: s.Behind, Generations: []client.Generation{}}
	for _, g := range s.Generations {
		row := client.Generation{
			Generation: g.Number, State: string(g.State), KeyID: g.KeyID, StagedAt: g.StagedAt, PublishedAt: g.PublishedAt, ActiveAt: g.ActiveAt,
			DrainingAt: g.DrainingAt, EndedAt: g.EndedAt, By: g.By, Reason: g.Reason, Certificate: g.Certificate, Holders: g.Holders,
		}
		if g.CSR != nil && g.Certificate == "" {
			row.CSR = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: g.CSR}))
		}
		if d := g.Drill; d != nil {
			row.Drill = &client.Drill{
				Affected: d.Affected, Rekeyed: d.Rekeyed, First: d.First.Seconds(), Half: d.Half.Seconds(), P95: d.P95.Seconds(), Last: d.Last.Seconds(), Remaining: d.Remaining,
			}
		}
		out.Generations = append(out.Generations, row)
	}
	return out
}

func (a *IssuingCAs) one(ctx context.Context, issuer string) (client.Issuer, error) {
	all, err := a.Issuers(ctx)
	if err != nil {
		return client.Issuer{}, err
	}
	for _, i := range all {
		if i.Issuer == issuer {
			return i, nil
		}
	}
	return client.Issuer{}, fmt.Errorf("issuer %q: %w", issuer, inventory.ErrNotFound)
}

// Rotate implements [Issuers].
func (a *IssuingCAs) Rotate(ctx context.Context, issuer string, q client.RotateIssuer, by string) (client.Issuer, error) {
	r := pki.Rotation{Issuer: pki.Issuer(issuer), By: by, Reason: q.Reason, Force: q.Force}
	var err error
	switch q.Action {
	case "start":
		err = a.pki.StartRotation(ctx, r)
	case "next":
		_, err = a.pki.NextRotation(ctx, r)
	case "abort":
		err = a.pki.AbortRotation(ctx, r)
	default:
		err = fmt.Errorf("%w: action %q is not start, next or abort", inventory.ErrInvalid, q.Action)
	}
	if err != nil {
		return client.Issuer{}, signerProblem(err)
	}
	return a.one(ctx, issuer)
}

// Distrust implements [Issuers].
func (a *IssuingCAs) Distrust(ctx context.Context, issuer string, q client.DistrustIssuer, by string) (client.Distrusted, error) {
	c, err := a.pki.Distrust(ctx, pki.Compromise{Issuer: pki.Issuer(issuer), By: by, Reason: q.Reason, Staged: q.Staged, DryRun: q.DryRun})
	if err != nil {
		return client.Distrusted{}, signerProblem(err)
	}
	return client.Distrusted{
		Issuer: issuer, DryRun: q.DryRun, Distrusted: c.Distrusted, Active: c.Active, Holders: c.Holders, RootCRL: c.RootCRL, Note: c.Note,
	}, nil
}

// Install implements [Issuers].
func (a *IssuingCAs) Install(ctx context.Context, issuer string, q client.IssuerCertificate, by string) (client.Issuer, error) {
	der, err := pemBlock(q.Certificate, "CERTIFICATE")
	if err != nil {
		return client.Issuer{}, err
	}
	if err := a.pki.InstallIssuer(ctx, pki.Rotation{Issuer: pki.Issuer(issuer), By: by}, q.Generation, der); err != nil {
		return client.Issuer{}, signerProblem(err)
	}
	return a.one(ctx, issuer)
}

// InstallRootCRL implements [Issuers].
func (a *IssuingCAs) InstallRootCRL(ctx context.Context, crlPEM, by string) ([]client.Issuer, error) {
	der, err := pemBlock(crlPEM, "X509 CRL")
	if err != nil {
		return nil, err
	}
	if err := a.pki.InstallRootCRL(ctx, der, by); err != nil {
		return nil, signerProblem(err)
	}
	return a.Issuers(ctx)
}

func pemBlock(text, kind string) ([]byte, error) {
	b, _ := pem.Decode([]byte(text))
	if b == nil || b.Type != kind {
		return nil, fmt.Errorf("%w: that is not a PEM %s", inventory.ErrInvalid, kind)
	}
	return b.Bytes, nil
}

// signerProblem names what an operator can do about the signing process and
// about steps that wait.
func signerProblem(err error) error {
	switch {
	case errors.Is(err, pki.ErrHeld):
		return &client.Problem{Status: http.StatusConflict, Type: client.TypeHeld, Title: http.StatusText(http.StatusConflict), Detail: err.Error(), Hint: "see 'wardnet cert rotate status'; --force with a --reason takes the step all the same"}
	case errors.Is(err, signer.ErrCeremony):
		return &client.Problem{Status: http.StatusConflict, Type: client.TypeHeld, Title: http.StatusText(http.StatusConflict), Detail: err.Error(), Hint: "see 'wardnet cert ceremony --help'"}
	case errors.Is(err, signer.ErrUnavailable):
		return &client.Problem{Status: http.StatusServiceUnavailable, Title: http.StatusText(http.StatusServiceUnavailable), Detail: err.Error(), Hint: "look at the log of 'wardnet serve' and at the socket in signer.socket of its configuration"}
	}
	return err
}
