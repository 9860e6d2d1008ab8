package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// newCertToken is "cert token": what a device needs for its first contact, and
// a person's confirmation where that travelled.
func newCertToken() *cobra.Command {
	return group("token", "One-time tokens: of devices, and of services", newTokenCreate(), newTokenPending(), newTokenConfirm(), newTokenService(), newTokenRegistrar())
}

// newTokenCreate makes tokens. With --bundle or --qr the token is written there
// and not shown.
func newTokenCreate() *cobra.Command {
	var bundle, picture string
	var days int
	return verb[client.EnrolmentBundle]{
		use: "create DEVICE…", short: "Make one-time enrolment tokens (10 minutes, bound to device and serial), or offline ones",
		example: "wardnet cert token create d-26740 --bundle bundle.json\n  wardnet cert token create d-26740 d-26743 --json\n  wardnet cert token create d-26740 --offline-days 14 --qr d-26740.png\n  wardnet cert token create d-26740 --qr -",
		args:    cobra.MinimumNArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.EnrolmentBundle, error) {
			if (bundle != "" || picture != "") && len(args) != 1 {
				return client.EnrolmentBundle{}, fmt.Errorf("%w: --bundle and --qr are for one device, %d were named", inventory.ErrInvalid, len(args))
			}
			if days < 0 || days > 30 {
				return client.EnrolmentBundle{}, fmt.Errorf("%w: --offline-days %d is not within 1 and 30", inventory.ErrInvalid, days)
			}
			ids := make([]inventory.DeviceID, len(args))
			for i, a := range args {
				ids[i] = inventory.DeviceID(a)
			}
			var b client.EnrolmentBundle
			var err error
			if days > 0 {
				b, err = c.EnrolOffline(ctx, days, ids...)
			} else {
				b, err = c.Enrol(ctx, ids...)
			}
			if err != nil {
				return b, err
			}
			if picture != "" {
				if err := saveQR(b, picture); err != nil {
					return b, err
				}
			}
			switch {
			case bundle != "":
				return saveBundle(b, bundle)
			case picture != "":
				b.Tokens[0].Token = "" // it is in the picture
			}
			return b, nil
		},
		show: func(w io.Writer, b client.EnrolmentBundle) {
			row(w, "enrolment", b.EnrolURL)
			for _, t := range b.Tokens {
				row(w, string(t.Device), t.Serial, t.Token, t.Expires)
			}
			if bundle != "" {
				row(w, "bundle", bundle)
			}
			if picture != "" && picture != "-" {
				row(w, "QR code", picture)
			}
			if days > 0 {
				row(w, "next", "when the box has called, compare its code and confirm it: 'wardnet cert token pending'")
			}
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&bundle, "bundle", "", "write the bundle for 'wardnet-edge enrol' to this file (0600) instead of showing the token")
			cmd.Flags().StringVar(&picture, "qr", "", `write a QR code for 'wardnet-edge enrol --code' to this PNG file (0600), or draw it on standard error for "-"`)
			cmd.Flags().IntVar(&days, "offline-days", 0, "for a token that travels: its life in days, at most 30; what shows it waits for 'wardnet cert token confirm'")
		},
	}.command()
}

// saveQR writes the ticket of the first token.
func saveQR(b client.EnrolmentBundle, path string) error {
	t := b.Tokens[0]
	ticket, err := enrol.TicketOf(enrol.Bundle{EnrolURL: b.EnrolURL, RootPEM: b.RootPEM, Device: t.Device, Serial: t.Serial, Token: t.Token})
	if err != nil {
		return err
	}
	code, err := qr.Encode(ticket.Text(), qr.M)
	if err != nil {
		return fmt.Errorf("draw the QR code of %s: %w", t.Device, err)
	}
	if path == "-" {
		_, err := io.WriteString(os.Stderr, drawQR(code))
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("%w: --qr: %w", inventory.ErrInvalid, err)
	}
	if err := f.Chmod(0o600); err != nil { // it may have been there
		f.Close()
		return fmt.Errorf("--qr: %w", err)
	}
	if _, err := f.Write(code.PNG()); err != nil {
		f.Close()
		return fmt.Errorf("--qr: %w", err)
	}
	return f.Close()
}

// drawQR draws two rows of modules in a line of half blocks, dark on light
// whatever the terminal's colours are: with the quiet zone that scanners need.
func drawQR(code *qr.Code) string {
	const quiet = 4
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		b.WriteString("\x1b[30;47m")
		for x := -quiet; x < code.Size+quiet; x++ {
			switch top, bottom := code.Black(x, y), code.Black(x, y+1); {
			case top && bottom:
				b.WriteString("█")
			case top:
				b.WriteString("▀")
			case bottom:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String()
}

func newTokenPending() *cobra.Command {
	return verb[[]client.PendingDevice]{
		use: "pending", short: "List devices that have shown an offline token and wait for a confirmation", example: "wardnet cert token pending",
		ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.PendingDevice, error) {
			return c.PendingDevices(ctx)
		},
		show: func(w io.Writer, v []client.PendingDevice) {
			row(w, "DEVICE", "SERIAL", "CODE", "FROM", "FIRST", "LAST")
			for _, p := range v {
				row(w, string(p.Device), p.Serial, p.Code, p.Remote, p.First, p.Last)
			}
			none(w, len(v), "devices wait")
		},
	}.command()
}

func newTokenConfirm() *cobra.Command {
	var code string
	return verb[client.PendingDevice]{
		use: "confirm DEVICE", short: "Let a waiting device have its certificate, after comparing the code that the box shows",
		example: "wardnet cert token confirm d-26740 --code 3f9a-01bc-77e2-90d4", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.PendingDevice, error) {
			return c.ConfirmDevice(ctx, inventory.DeviceID(args[0]), code)
		},
		show:  func(w io.Writer, p client.PendingDevice) { row(w, "confirmed", string(p.Device), p.Code, p.Remote) },
		flags: func(cmd *cobra.Command) { cmd.Flags().StringVar(&code, "code", "", "as the box shows it (required)") },
	}.command()
}
