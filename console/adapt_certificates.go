package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// maxEnrol bounds one request for enrolment tokens.
const maxEnrol = 20_000

// Authority is [Certificates] over the PKI.
type Authority struct {
	pki       *pki.PKI
	inventory Inventory
}

// AdaptCertificates serves the certificates of p.
func AdaptCertificates(p *pki.PKI, inv Inventory) *Authority { return &Authority{p, inv} }

// Enrol implements [Certificates].
func (a *Authority) Enrol(ctx context.Context, ids []inventory.DeviceID, by string) (client.EnrolmentBundle, error) {
	fail := func(err error) (client.EnrolmentBundle, error) { return client.EnrolmentBundle{}, err }
	inv, _, err := a.inventory.Load(ctx)
	if err != nil {
		return fail(err)
	}
	devices, err := a.choose(ctx, inv, ids)
	if err != nil {
		return fail(err)
	}
	tokens := make([]client.EnrolmentToken, len(devices))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32) // the store commits what waits together
	for i, d := range devices {
		g.Go(func() error {
			token, expires, err := a.pki.CreateToken(ctx, d.ID, d.Serial, by)
			tokens[i] = client.EnrolmentToken{Device: d.ID, Serial: d.Serial, Token: token, Expires: expires}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fail(err)
	}
	return bundleOf(a.pki, inv, tokens)
}

// bundleOf gives each token the first-boot ports of its device's site and signs
// what the device will get.
func bundleOf(p *pki.PKI, inv inventory.Inventory, tokens []client.EnrolmentToken) (client.EnrolmentBundle, error) {
	head := p.Bundle("", "", "")
	out := client.EnrolmentBundle{EnrolURL: head.EnrolURL, Channel: head.Channel, CAURL: head.CAURL, RootPEM: head.RootPEM, Tokens: tokens}
	inv, err := inventory.Expand(inv) // a port's MTU may be the profile's
	if err != nil {
		return client.EnrolmentBundle{}, fmt.Errorf("write the profiles of the inventory out: %w", err)
	}
	x := inv.Index()
	for i := range tokens {
		t := &tokens[i]
		b := head
		b.Device, b.Serial, b.Token = t.Device, t.Serial, t.Token
		d, _ := x.Device(t.Device)
		for _, k := range x.SiteCircuits(d.Site) {
			if k.Port != "" {
				b.Ports = append(b.Ports, enrol.Port{
					Name: string(k.ID), Kind: k.Kind, Port: k.Port, Addressing: k.Addressing, Address: k.Address, Gateway: k.Gateway, MTU: k.MTU,
				})
			}
		}
		b, err := p.SignBundle(b)
		if err != nil {
			return client.EnrolmentBundle{}, err
		}
		out.Signer, t.Signature = b.Signer, b.Signature
		for _, port := range b.Ports {
			t.Ports = append(t.Ports, client.BootPort(port))
		}
	}
	return out, nil
}

// choose finds the devices asked for; all faults come at once.
func (a *Authority) choose(ctx context.Context, inv inventory.Inventory, ids []inventory.DeviceID) ([]inventory.Device, error) {
	if len(ids) > maxEnrol {
		return nil, fmt.Errorf("%w: %d devices in one request; %d at most", inventory.ErrInvalid, len(ids), maxEnrol)
	}
	if len(ids) == 0 {
		return a.unenrolled(ctx, inv)
	}
	known := make(map[inventory.DeviceID]inventory.Device, len(inv.Devices))
	for _, d := range inv.Devices {
		known[d.ID] = d
	}
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var out []inventory.Device
	var errs []error
	for _, id := range slices.Compact(ids) {
		d, ok := known[id]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("device %q: %w", id, inventory.ErrNotFound))
		case d.Intended != inventory.InService:
			errs = append(errs, fmt.Errorf("%w: device %s is %s; put it in service first", inventory.ErrInvalid, id, d.Intended))
		}
		out = append(out, d)
	}
	return out, errors.Join(errs...)
}

func (a *Authority) unenrolled(ctx context.Context, inv inventory.Inventory) ([]inventory.Device, error) {
	certs, err := a.pki.Newest(ctx)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	now := time.Now()
	enrolled := map[inventory.DeviceID]bool{}
	for _, c := range certs {
		if c.State(now) == "valid" {
			enrolled[c.Device] = true
		}
	}
	var out []inventory.Device
	for _, d := range inv.Devices {
		if d.Intended == inventory.InService && !enrolled[d.ID] {
			out = append(out, d)
		}
	}
	return out, nil
}

// Certificates implements [Certificates].
func (a *Authority) Certificates(ctx context.Context) ([]client.Certificate, error) {
	certs, err := a.pki.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	now := time.Now()
	out := make([]client.Certificate, len(certs))
	for i, c := range certs {
		out[i] = certificate(c, now)
	}
	return out, nil
}

func certificate(c pki.Certificate, now time.Time) client.Certificate {
	return client.Certificate{
		Serial: c.Serial, Subject: c.Subject, SPIFFEID: c.SPIFFEID, Device: c.Device, Issuer: string(c.Issuer),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, State: c.State(now), IssuedAt: c.IssuedAt, IssuedBy: c.IssuedBy,
	}
}

// Revoke implements [Certificates].
func (a *Authority) Revoke(ctx context.Context, serial, reason, by string) (client.Certificate, error) {
	if err := a.pki.Revoke(ctx, serial, reason, by); err != nil {
		return client.Certificate{}, err
	}
	c, err := a.pki.Certificate(ctx, serial)
	if err != nil {
		return client.Certificate{}, err
	}
	return certificate(c, time.Now()), nil
}

// IssueService implements [Certificates].
func (a *Authority) IssueService(ctx context.Context, want client.NewServiceCertificate, by string) (client.ServiceCertificate, error) {
	c, err := a.pki.IssueService(ctx, pki.ServiceRequest{Name: want.Name, CSR: want.CSR, By: by})
	if err != nil {
		return client.ServiceCertificate{}, err
	}
	return client.ServiceCertificate{Serial: c.Serial, ChainPEM: c.Chain, RootPEM: a.pki.RootPEM(), NotAfter: c.NotAfter}, nil
}
