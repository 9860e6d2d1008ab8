package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
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
	var path, code, rootPath, keys string
	c := &cobra.Command{
		Use:   "enrol",
		Short: "Exchange the bundle's one-time token for the device's certificate",
		Long: `Exchange the bundle's one-time token for the device's certificate.

The keys are made here and never leave the device. A device that is enrolled
already keeps its identity: enrolling again changes nothing.

With --root only a bundle that the controller of that root signed is taken, so
that nobody who writes the file can lead the device elsewhere.

With --code the text of a QR code made by 'wardnet cert token create --qr' is
read from a file, or from standard input for "-": paste it and end with a new
line. A token that travelled waits until a person at the controller has compared
the code that is logged here ('wardnet cert token confirm').`,
		Example: `  wardnet-edge enrol --bundle /media/usb/e-26740.json
  wardnet-edge enrol --bundle /media/usb/e-26740.json --root /etc/wardnet-edge/root.pem
  wardnet-edge enrol --code -`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := a.logger(c)
			if err != nil {
				return err
			}
			if (path == "") == (code == "") {
				return fmt.Errorf("%w: give --bundle or --code", inventory.ErrInvalid)
			}
			root, err := rootOf(rootPath)
			if err != nil {
				return err
			}
			var bundle enrol.Bundle
			if path != "" {
				bundle, err = enrol.LoadBundle(path)
			} else {
				bundle, err = readTicket(c, code, root)
				root = "" // compared
			}
			if err != nil {
				return err
			}
			chip, err := keystore(keys)
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
			id, err := enrol.Client{Log: log, Root: root, Journal: enrol.OpenJournal(a.state), Keys: chip}.Enrol(c.Context(), bundle, dir)
			if err != nil {
				return err
			}
			return a.print(c, identityOf(id))
		},
	}
	c.Flags().StringVar(&path, "bundle", "", "enrolment bundle, readable by its owner alone")
	c.Flags().StringVar(&code, "code", "", `file with the text of a QR code, or "-" for one line of standard input`)
	c.Flags().StringVar(&keys, "keys", "", keysHelp)
	c.Flags().StringVar(&rootPath, "root", "", "root certificate given to the device beforehand")
	return c
}

// readTicket gives the bundle that the code stands for; its root must be the
// one given beforehand, when one was.
func readTicket(c *cobra.Command, file, root string) (enrol.Bundle, error) {
	in := c.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return enrol.Bundle{}, fmt.Errorf("%w: enrolment code: %w", inventory.ErrInvalid, err)
		}
		defer f.Close()
		in = f
	}
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return enrol.Bundle{}, fmt.Errorf("read the enrolment code: %w", err)
	}
	t, err := enrol.ParseTicket(line)
	if err != nil {
		return enrol.Bundle{}, err
	}
	b, err := enrol.Client{}.Bundle(c.Context(), t)
	if err != nil {
		return enrol.Bundle{}, err
	}
	if root != "" {
		want, err := enrol.TicketOf(enrol.Bundle{EnrolURL: b.EnrolURL, RootPEM: root, Device: b.Device, Serial: b.Serial, Token: b.Token})
		if err != nil {
			return enrol.Bundle{}, err
		}
		if want.Root != t.Root {
			return enrol.Bundle{}, fmt.Errorf("%w: the code is of another root than the one this device was given", inventory.ErrInvalid)
		}
	}
	return b, nil
}
