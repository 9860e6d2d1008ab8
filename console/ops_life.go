package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// CertificateSearch looks into what was issued.
type CertificateSearch interface {
	Search(ctx context.Context, f client.CertificateFilter) ([]client.Certificate, error)
	Certificate(ctx context.Context, serial string) (client.CertificateDetail, error)
	Forecast(ctx context.Context, within time.Duration, connected bool) (client.Forecast, error)
}

// Admission is where a person decides about a device's identity.
type Admission interface {
	EnrolOffline(ctx context.Context, want client.OfflineEnrolment, by string) (client.EnrolmentBundle, error)
	Pending(ctx context.Context) ([]client.PendingDevice, error)
	Confirm(ctx context.Context, id inventory.DeviceID, code, by string) (client.PendingDevice, error)
	Quarantined(ctx context.Context) ([]client.QuarantinedDevice, error)
	Release(ctx context.Context, id inventory.DeviceID, reason, by string) (client.QuarantinedDevice, error)
}

func (c *Console) registerLife() {
	read(c, get("/certificates", "list-certificates", "certificates", "Issued certificates, newest first"), c.listCertificates)
	read(c, get("/certificates/{serial}", "get-certificate", "certificates", "One certificate with its chain and what becomes of it"), func(ctx context.Context, in *struct {
		Serial string `path:"serial" maxLength:"64"`
	},
	) (*answer[client.CertificateDetail], error) {
		s, err := c.search()
		if err != nil {
			return nil, err
		}
		return answered(s.Certificate(ctx, in.Serial))
	})
	read(c, get("/certificate-forecast", "get-certificate-forecast", "certificates", "Which devices go dark, when, if they stay away"), func(ctx context.Context, in *struct {
		Days      int  `query:"days" minimum:"1" maximum:"400" default:"30"`
		Connected bool `query:"connected" doc:"devices that are connected now, too"`
	},
	) (*answer[client.Forecast], error) {
		s, err := c.search()
		if err != nil {
			return nil, err
		}
		return answered(s.Forecast(ctx, time.Duration(in.Days)*24*time.Hour, in.Connected))
	})
	op := post("/offline-enrolment", "create-offline-enrolment", "certificates", "Make one-time enrolment tokens that travel; what shows one waits for a confirmation")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.enrolOffline)
	read(c, get("/pending-devices", "list-pending-devices", "certificates", "Devices that have shown an offline token and wait for a person"), func(ctx context.Context, _ *nothing) (*answer[[]client.PendingDevice], error) {
		a, err := c.admission()
		if err != nil {
			return nil, err
		}
		return listed(a.Pending(ctx))
	})
	write(c, post("/pending-devices/{id}/confirm", "confirm-device", "certificates", "Let a waiting device have its certificate"), c.confirmDevice)
	read(c, get("/quarantine", "list-quarantine", "certificates", "Devices in quarantine"), func(ctx context.Context, _ *nothing) (*answer[[]client.QuarantinedDevice], error) {
		a, err := c.admission()
		if err != nil {
			return nil, err
		}
		return listed(a.Quarantined(ctx))
	})
	write(c, post("/devices/{id}/release", "release-device", "certificates", "End a device's quarantine"), c.releaseDevice)
}

func (c *Console) search() (CertificateSearch, error) {
	if c.deps.Search == nil {
		return nil, fmt.Errorf("%w: this controller keeps no certificates to search", inventory.ErrNotFound)
	}
	return c.deps.Search, nil
}

func (c *Console) admission() (Admission, error) {
	if c.deps.Admission == nil {
		return nil, fmt.Errorf("%w: this controller admits no devices", inventory.ErrNotFound)
	}
	return c.deps.Admission, nil
}

func (c *Console) listCertificates(ctx context.Context, in *struct {
	Device        string    `query:"device" maxLength:"128"`
	Issuer        string    `query:"issuer" maxLength:"64"`
	Serial        string    `query:"serial" maxLength:"64" doc:"or the beginning of one, lower-case hex"`
	State         string    `query:"state" enum:"valid,expired,revoked"`
	By            string    `query:"by" maxLength:"200" doc:"the user who issued it, or made the token it was exchanged for"`
	ExpiresFrom   time.Time `query:"expires_from"`
	ExpiresBefore time.Time `query:"expires_before"`
	Before        string    `query:"before" maxLength:"64" doc:"serial number of a certificate: only those issued before it"`
	Limit         int       `query:"limit" minimum:"1" maximum:"1000" default:"1000"`
},
) (*answer[[]client.Certificate], error) {
	if c.deps.Search == nil {
		return listed(c.deps.Certificates.Certificates(ctx))
	}
	return listed(c.deps.Search.Search(ctx, client.CertificateFilter{
		Device: inventory.DeviceID(in.Device), Issuer: in.Issuer, Serial: in.Serial, State: in.State, By: in.By,
		ExpiresFrom: in.ExpiresFrom, ExpiresBefore: in.ExpiresBefore, Before: in.Before, Limit: in.Limit,
	}))
}

func (c *Console) enrolOffline(ctx context.Context, in *struct{ Body client.OfflineEnrolment }) (*answer[client.EnrolmentBundle], error) {
	about(ctx, "offline-enrolment")
	a, err := c.admission()
	if err != nil {
		return nil, err
	}
	b, err := a.EnrolOffline(ctx, in.Body, principal(ctx).Name)
	if err == nil {
		changed(ctx, nil, map[string]any{"devices": in.Body.Devices, "days": in.Body.Days}) // never the tokens
	}
	return answered(b, err)
}

func (c *Console) confirmDevice(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"128"`
	Body client.DeviceConfirmation
},
) (*answer[client.PendingDevice], error) {
	about(ctx, "device/"+in.ID)
	a, err := c.admission()
	if err != nil {
		return nil, err
	}
	d, err := a.Confirm(ctx, inventory.DeviceID(in.ID), in.Body.Code, principal(ctx).Name)
	if err == nil {
		changed(ctx, nil, map[string]any{"code": d.Code})
	}
	return answered(d, err)
}

func (c *Console) releaseDevice(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"128"`
	Body client.QuarantineRelease
},
) (*answer[client.QuarantinedDevice], error) {
	about(ctx, "device/"+in.ID)
	a, err := c.admission()
	if err != nil {
		return nil, err
	}
	d, err := a.Release(ctx, inventory.DeviceID(in.ID), in.Body.Reason, principal(ctx).Name)
	if err == nil {
		changed(ctx, map[string]any{"quarantine": d.Reason}, map[string]any{"reason": in.Body.Reason})
	}
	return answered(d, err)
}
