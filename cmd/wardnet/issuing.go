package main

import (
	"context"

	"github.com/wardnet/wardnet/console"
	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/acmeca"
	"github.com/wardnet/wardnet/pki/ocsp"
	"github.com/wardnet/wardnet/pki/stepca"
)

// openIssuing readies what services get certificates by, and OCSP.
func (p *plane) openIssuing(ctx context.Context, l listeners) error {
	rows := store.NewACME(p.db, p.cfg.Org)
	p.ocsp = ocsp.New(ocsp.Deps{Source: p.pki.OCSPSource(rows.PKI), Log: p.log, Reg: p.reg})
	var err error
	if p.acme, err = acmeca.Open(ctx, acmeca.Deps{
		Store: rows, Row: p.pki.ServiceRow, Issued: p.pki.ServiceIssued, Revoked: p.pki.Revoked, Issuer: p.pki.ServiceIssuerKey, Log: p.log, Reg: p.reg,
	}, p.cfg.ACME); err != nil {
		return err
	}
	root, err := p.pki.RootCertificate()
	if err != nil {
		return err
	}
	key, err := p.pki.TokenKey()
	if err != nil {
		return err
	}
	p.pki.OpenToServices()
	p.step, err = stepca.New(stepca.Deps{
		Store: rows.PKI, CA: p.pki, Gate: p.pki, ACME: p.acme, Root: root, Key: key, Audit: p.auditPKI, Log: p.log, Reg: p.reg,
	}, stepca.Config{TrustDomain: p.cfg.TrustDomain, Names: p.cfg.Names, URL: "https://" + p.at(l.ca)})
	return err
}

// issuing is what the console tells of the CA API.
func (p *plane) issuing(l listeners) console.Issuing {
	url := "https://" + p.at(l.ca)
	said := client.CA{RootPEM: p.pki.RootPEM(), Fingerprint: p.step.Fingerprint(), URL: url, StatusURL: "http://" + p.at(l.status)}
	if len(p.cfg.ACME.Allow) > 0 {
		said.ACMEDirectory = url + acmeca.Prefix + "directory"
	}
	return &console.CAServices{Step: p.step, ACME: p.acme, Said: said}
}

var (
	_ stepca.CA   = (*pki.PKI)(nil)
	_ stepca.Gate = (*pki.PKI)(nil)
)
