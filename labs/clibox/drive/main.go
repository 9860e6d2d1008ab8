// Command drive pushes configurations to boxes of package clibox with the CLI
// driver, as the controller would, and reads them back: what the comparison with
// other tools runs. It takes jobs until its input ends, and keeps its sessions.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/cli"
	"github.com/wardnet/wardnet/edge/sshwire"
	"github.com/wardnet/wardnet/inventory"
)

// job is one value of the standard input.
type job struct {
	User   string `json:"user"`
	UserCA []byte `json:"user_ca"` // private key, PEM
	HostCA []byte `json:"host_ca"` // public key, authorized_keys format
	Boxes  []box  `json:"boxes"`
	// Runs is how often the same is pushed; in all but the first nothing may be
	// left to do.
	Runs int `json:"runs"`
}

type box struct {
	ID   inventory.DeviceID `json:"id"`
	Addr string             `json:"addr"`
	Want edge.Config        `json:"want"`
}

// report is the answer to a job.
type report struct {
	Seconds []float64 `json:"seconds"` // of each run
	Changed []int     `json:"changed"` // boxes that were written
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "drive: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	open := map[inventory.DeviceID]cli.Device{}
	defer func() {
		for _, d := range open {
			_ = d.Close() // the process ends
		}
	}()
	for {
		var j job
		switch err := in.Decode(&j); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		devices, err := devicesOf(j, open)
		if err != nil {
			return err
		}
		var r report
		for range max(j.Runs, 1) {
			start := time.Now()
			n, err := push(ctx, devices, j.Boxes)
			if err != nil {
				return err
			}
			r.Seconds, r.Changed = append(r.Seconds, time.Since(start).Seconds()), append(r.Changed, n)
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

// devicesOf gives the job's devices, those that are open already as they are.
func devicesOf(j job, open map[inventory.DeviceID]cli.Device) ([]cli.Device, error) {
	ca, err := ssh.ParsePrivateKey(j.UserCA)
	if err != nil {
		return nil, fmt.Errorf("user CA: %w", err)
	}
	host, _, _, _, err := ssh.ParseAuthorizedKey(j.HostCA)
	if err != nil {
		return nil, fmt.Errorf("host CA: %w", err)
	}
	var out []cli.Device
	for _, b := range j.Boxes {
		if open[b.ID] == nil {
			if open[b.ID], err = cli.New(cli.Config{
				Platform: "frr", Device: b.ID, Timeout: 30 * time.Second,
				SSH: sshwire.Config{
					Addr: b.Addr, HostName: string(b.ID), User: j.User, HostCA: host, Timeout: 30 * time.Second,
					Signer: func(context.Context) (ssh.Signer, error) { return login(ca, b.ID) },
				},
			}); err != nil {
				return nil, err
			}
		}
		out = append(out, open[b.ID])
	}
	return out, nil
}

// push makes every device hold what is wanted, all at once, and says how many
// were written: read, compare, write, read back.
func push(ctx context.Context, devices []cli.Device, boxes []box) (changed int, err error) {
	var wg sync.WaitGroup
	errs, wrote := make([]error, len(boxes)), make([]bool, len(boxes))
	for i, b := range boxes {
		wg.Go(func() {
			have, err := devices[i].Read(ctx, b.Want)
			if err != nil {
				errs[i] = err
				return
			}
			if edge.Diff(have, b.Want).Empty() {
				return
			}
			wrote[i] = true
			if errs[i] = devices[i].Write(ctx, have, b.Want); errs[i] != nil {
				return
			}
			if have, errs[i] = devices[i].Read(ctx, b.Want); errs[i] == nil && !edge.Diff(have, b.Want).Empty() {
				errs[i] = fmt.Errorf("%s: read back otherwise:\n%s", b.ID, edge.Diff(have, b.Want))
			}
		})
	}
	wg.Wait()
	for _, w := range wrote {
		if w {
			changed++
		}
	}
	return changed, errors.Join(errs...)
}

// login is what package pki's SSHSigner gives, but for the audit log.
func login(ca ssh.Signer, id inventory.DeviceID) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert := &ssh.Certificate{
		Key: signer.PublicKey(), CertType: ssh.UserCert, KeyId: "wardnet/" + string(id), ValidPrincipals: []string{"wardnet"},
		ValidAfter: uint64(now.Add(-time.Minute).Unix()), ValidBefore: uint64(now.Add(10 * time.Minute).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": ""}},
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(cert, signer)
}
