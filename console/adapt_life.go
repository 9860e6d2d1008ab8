package console

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// cityZone is the time zone of a forecast's days.
var cityZone = time.FixedZone("+07", 7*3600) // Asia/Ho_Chi_Minh, no daylight saving since 1975

// Life is [CertificateSearch] and [Admission] over the PKI.
type Life struct {
	pki       *pki.PKI
	inventory Inventory
	auth      *Authority
	connected func(inventory.DeviceID) bool
}

// AdaptLife serves the life of p's certificates; connected says which devices
// are there now.
func AdaptLife(p *pki.PKI, inv Inventory, connected func(inventory.DeviceID) bool) *Life {
	return &Life{p, inv, AdaptCertificates(p, inv), connected}
}

// Search implements [CertificateSearch].
func (l *Life) Search(ctx context.Context, f client.CertificateFilter) ([]client.Certificate, error) {
	now := time.Now()
	want := pki.Filter{
		Device: f.Device, Issuer: pki.Issuer(f.Issuer), Serial: f.Serial, State: f.State, By: f.By,
		ExpiresFrom: f.ExpiresFrom, ExpiresBefore: f.ExpiresBefore, Now: now, Limit: f.Limit,
	}
	var page pki.Page
	var err error
	if f.Before == "" {
		page, err = l.pki.Search(ctx, want)
	} else {
		page, err = l.pki.SearchBefore(ctx, want, f.Before)
	}
	if err != nil {
		return nil, err
	}
	out := make([]client.Certificate, len(page.Certificates))
	for i, c := range page.Certificates {
		out[i] = certificate(c, now)
	}
	return out, nil
}

// Certificate implements [CertificateSearch].
func (l *Life) Certificate(ctx context.Context, serial string) (client.CertificateDetail, error) {
	c, err := l.pki.Certificate(ctx, serial)
	if err != nil {
		return client.CertificateDetail{}, err
	}
	d := client.CertificateDetail{
		Certificate: certificate(c, time.Now()), IssuerKey: c.IssuerKey, Lineage: c.Lineage, Parent: c.Parent, WireGuard: c.WireGuard, ChainPEM: c.Chain,
	}
	if !c.RevokedAt.IsZero() {
		d.RevokedAt = &c.RevokedAt
	} else if c.Device != "" {
		due, quarantine, anew := pki.LatestRenewal(c.NotBefore, c.NotAfter), c.NotAfter.Add(pki.RecoverGrace), c.NotAfter.Add(pki.RecoverLimit)
		d.RenewalDue, d.QuarantineAt, d.EnrolAnewAt = &due, &quarantine, &anew
	}
	return d, nil
}

// Forecast implements [CertificateSearch].
func (l *Life) Forecast(ctx context.Context, within time.Duration, connected bool) (client.Forecast, error) {
	inv, _, err := l.inventory.Load(ctx)
	if err != nil {
		return client.Forecast{}, err
	}
	newest, err := l.pki.Newest(ctx)
	if err != nil {
		return client.Forecast{}, err
	}
	x, now := inv.Index(), time.Now().UTC()
	if !connected {
		var away []pki.Certificate
		for _, c := range newest {
			if !l.connected(c.Device) {
				away = append(away, c)
			}
		}
		newest = away
	}
	out := client.Forecast{At: now, Until: now.Add(within), Connected: connected, Days: []client.ForecastDay{}}
	for _, day := range pki.Forecast(newest, now, out.Until, cityZone) {
		d := client.ForecastDay{Day: day.Day.Format(time.DateOnly), Stage: string(day.Stage), OfflineLonger: int64(day.First().Sub(now).Seconds())}
		for _, f := range day.Fates {
			device, _ := x.Device(f.Device)
			site, _ := x.Site(device.Site)
			d.Devices = append(d.Devices, client.ForecastDevice{
				Device: f.Device, Site: device.Site, SiteName: site.Name, Serial: f.Serial, NotAfter: f.NotAfter, At: f.At, Connected: l.connected(f.Device),
			})
		}
		out.Days = append(out.Days, d)
	}
	return out, nil
}

// EnrolOffline implements [Admission].
func (l *Life) EnrolOffline(ctx context.Context, want client.OfflineEnrolment, by string) (client.EnrolmentBundle, error) {
	fail := func(err error) (client.EnrolmentBundle, error) { return client.EnrolmentBundle{}, err }
	if len(want.Devices) == 0 {
		return fail(fmt.Errorf("%w: name the devices that offline tokens are for", inventory.ErrInvalid))
	}
	inv, _, err := l.inventory.Load(ctx)
	if err != nil {
		return fail(err)
	}
	devices, err := l.auth.choose(ctx, inv, want.Devices)
	if err != nil {
		return fail(err)
	}
	tokens := make([]client.EnrolmentToken, len(devices))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32) // the store commits what waits together
	for i, d := range devices {
		g.Go(func() error {
			token, expires, err := l.pki.CreateOfflineToken(ctx, d.ID, d.Serial, by, time.Duration(want.Days)*24*time.Hour)
			tokens[i] = client.EnrolmentToken{Device: d.ID, Serial: d.Serial, Token: token, Expires: expires}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fail(err)
	}
	return bundleOf(l.pki, inv, tokens)
}

// Pending implements [Admission].
func (l *Life) Pending(ctx context.Context) ([]client.PendingDevice, error) {
	list, err := l.pki.Pending(ctx)
	out := make([]client.PendingDevice, len(list))
	for i, p := range list {
		out[i] = client.PendingDevice{Device: p.Device, Serial: p.Serial, Code: enrol.Code(p.CSRHash), Remote: p.Remote, First: p.First, Last: p.Last}
	}
	return out, err
}

// Confirm implements [Admission].
func (l *Life) Confirm(ctx context.Context, id inventory.DeviceID, code, by string) (client.PendingDevice, error) {
	list, err := l.Pending(ctx)
	if err != nil {
		return client.PendingDevice{}, err
	}
	if err := l.pki.Confirm(ctx, id, code, by); err != nil {
		return client.PendingDevice{}, err
	}
	for _, p := range list {
		if p.Device == id && p.Code == code {
			return p, nil
		}
	}
	return client.PendingDevice{Device: id, Code: code}, nil
}

// Quarantined implements [Admission].
func (l *Life) Quarantined(ctx context.Context) ([]client.QuarantinedDevice, error) {
	list, err := l.pki.Quarantined(ctx)
	out := make([]client.QuarantinedDevice, len(list))
	for i, q := range list {
		out[i] = client.QuarantinedDevice(q)
	}
	return out, err
}

// Release implements [Admission].
func (l *Life) Release(ctx context.Context, id inventory.DeviceID, reason, by string) (client.QuarantinedDevice, error) {
	list, err := l.Quarantined(ctx)
	if err != nil {
		return client.QuarantinedDevice{}, err
	}
	if err := l.pki.Release(ctx, id, reason, by); err != nil {
		return client.QuarantinedDevice{}, err
	}
	for _, q := range list {
		if q.Device == id {
			return q, nil
		}
	}
	return client.QuarantinedDevice{Device: id}, nil
}
