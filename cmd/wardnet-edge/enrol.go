package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// identity is the device's identity as enrol and status tell it.
type identity struct {
	Device   inventory.DeviceID `json:"device"`
	Serial   string             `json:"certificate_serial"`
	NotAfter time.Time          `json:"certificate_not_after"`
	Channel  string             `json:"channel"` // host:port of the controller
}

func identityOf(id *enrol.Identity) identity {
	leaf := id.Certificate()
	return identity{Device: id.Device(), Serial: enrol.SerialOf(leaf), NotAfter: leaf.NotAfter.UTC(), Channel: id.Channel()}
}

func (i identity) String() string {
	return fmt.Sprintf("device       %s\ncertificate  %s, until %s\ncontroller   %s", i.Device, i.Serial, i.NotAfter.Format(time.RFC3339), i.Channel)
}

func newEnrol(a *app) *cobra.Command {
	var path, rootPath string
	c := &cobra.Command{
		Use:   "enrol",
		Short: "Exchange the bundle's one-time token for the device's certificate",
		Long: `Exchange the bundle's one-time token for the device's certificate.

The keys are made here and never leave the device. A device that is enrolled
already keeps its identity: enrolling again changes nothing.

With --root only a bundle that the controller of that root signed is taken, so
that nobody who writes the file can lead the device elsewhere.`,
		Example: `  wardnet-edge enrol --bundle /media/usb/e-26740.json
  wardnet-edge enrol --bundle /media/usb/e-26740.json --root /etc/wardnet-edge/root.pem`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := a.logger(c)
			if err != nil {
				return err
			}
			if path == "" {
				return fmt.Errorf("%w: --bundle is required", inventory.ErrInvalid)
			}
			bundle, err := enrol.LoadBundle(path)
			if err != nil {
				return err
			}
			root, err := rootOf(rootPath)
			if err != nil {
				return err
			}
			dir := agent.IdentityDir(a.state)
			if err := (disk.OS{}).MkdirAll(dir); err != nil {
				return fmt.Errorf("make state directory: %w", err)
			}
			release, err := disk.Lock(a.state)
			if err != nil {
				return err
			}
			defer release()
			id, err := enrol.Client{Log: log, Root: root, Journal: enrol.OpenJournal(a.state)}.Enrol(c.Context(), bundle, dir)
			if err != nil {
				return err
			}
			return a.print(c, identityOf(id))
		},
	}
	c.Flags().StringVar(&path, "bundle", "", "enrolment bundle, readable by its owner alone (required)")
	c.Flags().StringVar(&rootPath, "root", "", "root certificate given to the device beforehand")
	return c
}
