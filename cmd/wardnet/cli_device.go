package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

func newDevice() *cobra.Command {
	return group(
		"device", "Devices, declared and observed",
		verb[[]client.Device]{
			use: "list", short: "List devices with their state", example: "wardnet device list --json",
			ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.Device, error) {
				return c.Devices(ctx)
			},
			show: func(w io.Writer, v []client.Device) {
				row(w, "DEVICE", "SITE", "ROLE", "STATE", "ENROLLED", "CONNECTED", "REVISION", "IN SYNC", "TUNNELS", "AGENT")
				for _, d := range v {
					row(w, string(d.ID), string(d.Site), string(d.Role), string(d.State), d.Enrolled, d.Connected, d.Revision, d.InSync, fmt.Sprintf("%d/%d", d.TunnelsUp, d.TunnelsTotal), d.AgentVersion)
				}
				none(w, len(v), "devices")
			},
		}.command(),
		verb[deviceStory]{
			use: "show DEVICE", short: "Show one device and how its first boot went", example: "wardnet device show d-26740\n  wardnet device show d-26740 --json", args: cobra.ExactArgs(1),
			ask:  tellDevice,
			show: showDevice,
		}.command(),
		newDeviceBundle(),
		newDeviceReplace(),
		newDevicePing(),
		newDeviceTrace(),
		newDeviceCapture(),
	)
}

// deviceStory is a device with the timeline of its first boots.
type deviceStory struct {
	client.Device
	Boot client.Timeline `json:"boot"`
}

func tellDevice(ctx context.Context, c *client.Client, args []string) (deviceStory, error) {
	id := inventory.DeviceID(args[0])
	d, err := c.Device(ctx, id)
	if err != nil {
		return deviceStory{}, err
	}
	t, err := c.Timeline(ctx, id)
	return deviceStory{d, t}, err
}

func showDevice(w io.Writer, d deviceStory) {
	row(w, "device", string(d.ID))
	row(w, "serial", d.Serial)
	row(w, "site", string(d.Site))
	row(w, "state", string(d.State))
	row(w, "certificate", d.CertSerial)
	row(w, "valid until", d.CertNotAfter)
	row(w, "connected", d.Connected)
	row(w, "last seen", d.LastSeen)
	row(w, "revision", d.Revision)
	row(w, "config hash", d.ConfigHash)
	row(w, "in sync", d.InSync)
	row(w, "tunnels up", fmt.Sprintf("%d of %d", d.TunnelsUp, d.TunnelsTotal))
	row(w, "agent", d.AgentVersion)
	row(w, "quarantine", d.Quarantine)
	row(w, "error", d.Error)
	showTimeline(w, d.Boot)
}

func showTimeline(w io.Writer, t client.Timeline) {
	fmt.Fprintln(w)
	if len(t.Steps) == 0 {
		row(w, "first boot", "nothing was seen of it yet")
		return
	}
	row(w, "FIRST BOOT", "STEP", "ENDED", "CAUSE", "TIMES", "SEEN BY", "DETAIL")
	for _, s := range t.Steps {
		row(w, s.At, s.Step, s.State, s.Cause, s.Count, s.By, s.Detail)
	}
	if t.Open {
		row(w, "under way", "the device has its certificate and no configuration is confirmed yet")
	}
}

// saveBundle writes the bundle of the first token to path and takes the token
// out of b: it is in the file now.
func saveBundle(b client.EnrolmentBundle, path string) (client.EnrolmentBundle, error) {
	t := b.Tokens[0]
	b.Tokens[0].Token = ""
	out := enrol.Bundle{
		EnrolURL: b.EnrolURL, Channel: b.Channel, CAURL: b.CAURL, RootPEM: b.RootPEM, Device: t.Device, Serial: t.Serial, Token: t.Token,
		Signer: b.Signer, Signature: t.Signature,
	}
	for _, p := range t.Ports {
		out.Ports = append(out.Ports, enrol.Port(p))
	}
	if err := out.Validate(); err != nil {
		return b, err
	}
	return b, out.Save(path)
}

// writable finds out before anything is made that the bundle could not be kept.
func writable(path string) error {
	if path == "" {
		return fmt.Errorf("%w: --out FILE says where the bundle goes; it holds a secret and is not shown", inventory.ErrInvalid)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".bundle-*")
	if err != nil {
		return fmt.Errorf("%w: --out: %w", inventory.ErrInvalid, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func newDeviceBundle() *cobra.Command {
	var out string
	return verb[client.EnrolmentBundle]{
		use: "bundle DEVICE", short: "Make the signed enrolment bundle of one device, to carry to its site",
		example: "wardnet device bundle d-26740 --out /media/usb/d-26740.json", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.EnrolmentBundle, error) {
			if err := writable(out); err != nil {
				return client.EnrolmentBundle{}, err
			}
			b, err := c.Enrol(ctx, inventory.DeviceID(args[0]))
			if err != nil {
				return b, err
			}
			return saveBundle(b, out)
		},
		show: func(w io.Writer, b client.EnrolmentBundle) {
			t := b.Tokens[0]
			row(w, "bundle", out)
			row(w, "device", string(t.Device))
			row(w, "serial", t.Serial)
			for _, p := range t.Ports {
				row(w, "port", fmt.Sprintf("%s: %s, %s", p.Port, p.Name, p.Addressing))
			}
			row(w, "valid until", t.Expires)
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&out, "out", "", "file for the bundle (0600): addresses of the controller, its root, the site's WAN ports and a one-time token (required)")
		},
	}.command()
}

// replacement is what "device replace" did.
type replacement struct {
	client.Replacement
	Bundle  string          `json:"bundle"` // file
	Rollout *client.Rollout `json:"rollout,omitempty"`
}

func newDeviceReplace() *cobra.Command {
	var reason, out string
	var apply bool
	return verb[replacement]{
		use: "replace OLD-SERIAL NEW-SERIAL", short: "Put a box in the place of another: same site, circuits and addresses; the old one is refused at once",
		example: "wardnet device replace WN-26740 WN-90001 --reason 'power supply burnt' --out /media/usb/new.json\n  wardnet device replace WN-26740 WN-90001 --out new.json --apply",
		args:    cobra.ExactArgs(2),
		ask: func(ctx context.Context, c *client.Client, args []string) (replacement, error) {
			if err := writable(out); err != nil {
				return replacement{}, err
			}
			r, err := c.Replace(ctx, client.NewReplacement{OldSerial: args[0], NewSerial: args[1], Reason: reason})
			if err != nil {
				return replacement{}, err
			}
			done := replacement{Replacement: r, Bundle: out}
			if done.Enrolment, err = saveBundle(r.Enrolment, out); err != nil {
				return done, fmt.Errorf("%s is replaced by %s, but its bundle is not written, make one with 'wardnet device bundle %s --out FILE': %w", r.Old, r.Device, r.Device, err)
			}
			if !apply {
				return done, nil
			}
			ro, err := c.StartRollout(ctx, r.Revision.Number)
			if err != nil {
				return done, fmt.Errorf("%s is replaced by %s and its bundle is in %s; revision %d is not rolled out yet: %w", r.Old, r.Device, out, r.Revision.Number, err)
			}
			done.Rollout = &ro
			return done, nil
		},
		show: func(w io.Writer, r replacement) {
			row(w, "retired", string(r.Old), fmt.Sprintf("%d certificates revoked", r.Revoked))
			row(w, "in its place", string(r.Device), "at "+string(r.Site))
			row(w, "bundle", r.Bundle, "valid until "+shown(r.Enrolment.Tokens[0].Expires))
			row(w, "revision", r.Revision.Number, r.Revision.Hash)
			switch {
			case r.Rollout != nil:
				row(w, "rollout", r.Rollout.ID, r.Rollout.State)
				row(w, "next", fmt.Sprintf("boot the new box with the bundle; see 'wardnet device show %s'", r.Device))
			default:
				row(w, "next", fmt.Sprintf("have revision %d approved and roll it out: 'wardnet plan %d', 'wardnet approve %d', 'wardnet apply %d'", r.Revision.Number, r.Revision.Number, r.Revision.Number, r.Revision.Number))
				row(w, "", fmt.Sprintf("boot the new box with the bundle; see 'wardnet device show %s'", r.Device))
			}
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&reason, "reason", "", "why, for the revision and the audit log")
			cmd.Flags().StringVar(&out, "out", "", "file for the new box's bundle (0600) (required)")
			cmd.Flags().BoolVar(&apply, "apply", false, "start the rollout too, if an approval is not asked for or is there; the new box is configured when it is up")
		},
	}.command()
}
