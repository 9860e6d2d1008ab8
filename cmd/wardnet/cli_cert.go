package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func newCert() *cobra.Command {
	var reason string
	return group(
		"cert", "Certificates",
		newCertList(),
		verb[client.CertificateDetail]{
			use: "show SERIAL", short: "Show one certificate and what becomes of it", example: "wardnet cert show 4f1e…", args: cobra.ExactArgs(1),
			ask: func(ctx context.Context, c *client.Client, args []string) (client.CertificateDetail, error) {
				return c.Certificate(ctx, args[0])
			},
			show: showCertificate,
		}.command(),
		verb[client.Certificate]{
			use: "revoke SERIAL", short: "Revoke a certificate and close what it opened", example: "wardnet cert revoke 4f1e… --reason 'box stolen'", args: cobra.ExactArgs(1),
			ask: func(ctx context.Context, c *client.Client, args []string) (client.Certificate, error) {
				return c.Revoke(ctx, args[0], reason)
			},
			show:  func(w io.Writer, x client.Certificate) { row(w, "revoked", x.Serial, string(x.Device)) },
			flags: func(cmd *cobra.Command) { cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log") },
		}.command(),
		newCertForecast(),
		newCertQuarantine(),
		newCertRelease(),
		newCertToken(),
		newCertRoot(), newCertACMEKey(),
		newCertRotate(), newCertCeremony(),
	)
}

func newCertList() *cobra.Command {
	var f client.CertificateFilter
	var device, from, before string
	return verb[[]client.Certificate]{
		use: "list", short: "List issued certificates, newest first",
		example: "wardnet cert list --json\n  wardnet cert list --device d-26740 --state valid\n  wardnet cert list --expires-before 2027-03-01 --state valid",
		ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.Certificate, error) {
			if err := limited(f.Limit); err != nil {
				return nil, err
			}
			f.Device = inventory.DeviceID(device)
			var err error
			if f.ExpiresFrom, err = dayOrTime("--expires-from", from); err != nil {
				return nil, err
			}
			if f.ExpiresBefore, err = dayOrTime("--expires-before", before); err != nil {
				return nil, err
			}
			return c.FindCertificates(ctx, f)
		},
		show: func(w io.Writer, v []client.Certificate) {
			row(w, "SERIAL", "DEVICE", "ISSUER", "STATE", "NOT AFTER", "ISSUED BY", "SPIFFE ID")
			for _, x := range v {
				row(w, x.Serial, string(x.Device), x.Issuer, x.State, x.NotAfter, x.IssuedBy, x.SPIFFEID)
			}
			none(w, len(v), "certificates")
			if len(v) == f.Limit {
				fmt.Fprintf(w, "there may be more: --before %s\n", v[len(v)-1].Serial)
			}
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&device, "device", "", "only of this device")
			cmd.Flags().StringVar(&f.Issuer, "issuer", "", "only of this issuer: devices, services or hub")
			cmd.Flags().StringVar(&f.Serial, "serial", "", "only with serial numbers that begin so")
			cmd.Flags().StringVar(&f.State, "state", "", "valid, expired or revoked")
			cmd.Flags().StringVar(&f.By, "by", "", "only those this user issued, or made the token for")
			cmd.Flags().StringVar(&from, "expires-from", "", "only those that end then or later: 2027-03-01, or RFC 3339")
			cmd.Flags().StringVar(&before, "expires-before", "", "only those that end before")
			cmd.Flags().StringVar(&f.Before, "before", "", "next page: only those issued before the certificate with this serial number")
			cmd.Flags().IntVar(&f.Limit, "limit", 1000, "at most so many, up to 1000")
		},
	}.command()
}

// dayOrTime reads a day of the city's time zone, or a moment.
func dayOrTime(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, zone); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %s %q is neither a day (2027-03-01) nor a time (2027-03-01T08:00:00+07:00)", inventory.ErrInvalid, flag, s)
	}
	return t, nil
}

func showCertificate(w io.Writer, c client.CertificateDetail) {
	row(w, "serial", c.Serial)
	row(w, "state", c.State)
	row(w, "subject", c.Subject)
	row(w, "SPIFFE id", c.SPIFFEID)
	row(w, "device", string(c.Device))
	row(w, "issuer", c.Issuer, "key "+c.IssuerKey)
	row(w, "issued", c.IssuedAt, c.IssuedBy)
	row(w, "valid", shown(c.NotBefore)+" to "+shown(c.NotAfter))
	row(w, "renews", c.Parent)
	row(w, "enrolment", c.Lineage)
	row(w, "WireGuard", c.WireGuard)
	row(w, "revoked", c.RevokedAt)
	if c.RenewalDue != nil {
		row(w, "renewal due", c.RenewalDue)
		row(w, "if it stays away", "in quarantine from "+shown(*c.QuarantineAt))
		row(w, "", "to be enrolled anew from "+shown(*c.EnrolAnewAt))
	}
	fmt.Fprintf(w, "\n%s", c.ChainPEM)
}

// stages say what happens, for people.
var stages = map[string]string{
	"ends":       "lose their certificate (chứng chỉ hết hạn); they renew by themselves when they are back",
	"quarantine": "go dark (mất kết nối): their tunnels end, and a person has to let them back",
	"enrol":      "must be enrolled anew at the site (phải đăng ký lại)",
}

func newCertForecast() *cobra.Command {
	var days int
	var connected bool
	return verb[client.Forecast]{
		use: "forecast", short: "Which devices go dark, when, if they stay offline",
		example: "wardnet cert forecast\n  wardnet cert forecast --days 90 --json\n  wardnet cert forecast --connected",
		ask: func(ctx context.Context, c *client.Client, _ []string) (client.Forecast, error) {
			return c.Forecast(ctx, days, connected)
		},
		show: func(w io.Writer, f client.Forecast) {
			for _, d := range f.Days {
				day := d.Day
				if t, err := time.ParseInLocation(time.DateOnly, d.Day, zone); err == nil {
					day = t.Format("2 January 2006")
				}
				fmt.Fprintf(w, "on %s %s %s, if offline for longer than %s\n", day, counted(len(d.Devices)), stages[d.Stage], longish(time.Duration(d.OfflineLonger)*time.Second))
				for _, x := range d.Devices {
					row(w, "", string(x.Device), x.SiteName, x.At, map[bool]string{true: "connected", false: "offline"}[x.Connected])
				}
			}
			if len(f.Days) == 0 {
				fmt.Fprintf(w, "no device goes dark before %s\n", shown(f.Until))
			}
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().IntVar(&days, "days", 30, "how far ahead, at most 400")
			cmd.Flags().BoolVar(&connected, "connected", false, "also devices that are connected now, as if they went offline")
		},
	}.command()
}

func counted(n int) string {
	if n == 1 {
		return "this device will"
	}
	return fmt.Sprintf("these %d devices", n)
}

// longish writes a duration in days and hours.
func longish(d time.Duration) string {
	switch h := int(d.Hours()); {
	case h >= 24:
		return fmt.Sprintf("%d d %d h", h/24, h%24)
	case h > 0:
		return fmt.Sprintf("%d h", h)
	default:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
}

func newCertQuarantine() *cobra.Command {
	return verb[[]client.QuarantinedDevice]{
		use: "quarantine", short: "List devices in quarantine: no tunnels, no access, until a person releases them",
		example: "wardnet cert quarantine",
		ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.QuarantinedDevice, error) {
			return c.QuarantinedDevices(ctx)
		},
		show: func(w io.Writer, v []client.QuarantinedDevice) {
			row(w, "DEVICE", "SINCE", "REASON")
			for _, q := range v {
				row(w, string(q.Device), q.Since, q.Reason)
			}
			none(w, len(v), "devices in quarantine")
		},
	}.command()
}

func newCertRelease() *cobra.Command {
	var reason string
	return verb[client.QuarantinedDevice]{
		use: "release DEVICE", short: "End a device's quarantine", example: "wardnet cert release d-26740 --reason 'office was closed over Tet, box checked on site'", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.QuarantinedDevice, error) {
			return c.ReleaseDevice(ctx, inventory.DeviceID(args[0]), reason)
		},
		show: func(w io.Writer, q client.QuarantinedDevice) {
			row(w, "released", string(q.Device), "was in since "+shown(q.Since))
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&reason, "reason", "", "why it may be trusted again, for the audit log (required)")
		},
	}.command()
}
