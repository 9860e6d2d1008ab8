package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/signer"
)

// signerFlags are what 'wardnet signer' is told.
type signerFlags struct {
	dir, socket, domain    string
	names                  []string
	deviceLife, serverLife time.Duration
	users                  []string
	create, createOnly     bool
	child                  bool
	level                  string
}

func newSigner() *cobra.Command {
	var f signerFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "signer",
		Short: "Hold the certificate authorities' keys and sign by template only",
		Long: `Hold the private keys of the issuing CAs and of the SSH CAs in a process of
their own, and sign what 'wardnet serve' asks for over a unix socket, by template
only: a device gets exactly its SPIFFE id, the controller its configured names,
an SSH user a terminal for 15 minutes. Everything signed is in journal.jsonl first.

'wardnet serve' starts one by itself unless the configuration names a socket
(signer: {socket: PATH}). Run it as a user of its own for the separation to hold
against a flaw in the controller; the kernel says who connects (SO_PEERCRED).`,
		Example: "  wardnet signer --dir /var/lib/wardnet-signer/ca --socket /run/wardnet-signer/signer.sock --allow-user wardnet --name hub.example --create",
		Args:    invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSigner(cmd, f, func(st signer.State) error {
				if asJSON {
					return printJSON(cmd, map[string]any{"socket": f.socket, "dir": f.dir, "issuers": len(st.Issuers), "root_key": st.RootKey})
				}
				fmt.Fprintf(cmd.OutOrStdout(), "signing for %s: %d issuer keys, root key here: %v\n", f.socket, len(st.Issuers), st.RootKey)
				return nil
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.dir, "dir", "", "CA directory (required)")
	fl.StringVar(&f.socket, "socket", "", "unix socket to serve (required)")
	fl.StringVar(&f.domain, "domain", "wardnet.hcmc", "trust domain of the CA")
	fl.StringArrayVar(&f.names, "name", nil, "a DNS name or address of the controller; may be repeated; no other goes into its certificate")
	fl.DurationVar(&f.deviceLife, "device-life", 7*24*time.Hour, "longest life of a device certificate")
	fl.DurationVar(&f.serverLife, "server-life", 30*24*time.Hour, "longest life of the controller's certificate")
	fl.StringArrayVar(&f.users, "allow-user", nil, "user name or uid that may ask, beside our own; may be repeated")
	fl.BoolVar(&f.create, "create", false, "make a CA when the directory holds none")
	fl.BoolVar(&f.createOnly, "create-only", false, "make a CA when the directory holds none, and end")
	fl.BoolVar(&f.child, "child", false, "end with standard input, as a child of 'wardnet serve'")
	fl.StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runSigner(cmd *cobra.Command, f signerFlags, ready func(signer.State) error) error {
	log, err := logger(cmd.ErrOrStderr(), f.level)
	if err != nil {
		return err
	}
	if f.dir == "" || (f.socket == "" && !f.createOnly) {
		return fmt.Errorf("%w: --dir and --socket are required", inventory.ErrInvalid)
	}
	there, err := signer.Exists(f.dir)
	if err == nil && !there && (f.create || f.createOnly) {
		err = signer.Create(f.dir, f.domain, time.Now())
	}
	if err != nil || f.createOnly {
		return err
	}
	allowed, err := uids(f.users)
	if err != nil {
		return err
	}
	release, err := lockCA(f.dir)
	if err != nil {
		return err
	}
	defer release()
	s, err := signer.Open(f.dir, signer.Config{Domain: f.domain, DeviceLife: f.deviceLife, ServerLife: f.serverLife, Names: f.names}, time.Now())
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	if f.child {
		go func() {
			cmd.InOrStdin().Read(make([]byte, 1)) //nolint:errcheck // its end is what counts
			stop()
		}()
	}
	l, err := signer.Listen(ctx, f.socket, allowed, log)
	if err != nil {
		return err
	}
	st, err := s.State(ctx)
	if err == nil {
		err = ready(st)
	}
	if err != nil {
		return err
	}
	return signer.Serve(ctx, l, s, log)
}

// lockCA keeps a second signer off the directory.
func lockCA(dir string) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "root.crt"), os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("CA directory: %w; --create makes a new CA", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: another signer holds %s", inventory.ErrConflict, dir)
	}
	return func() { f.Close() }, nil
}

func uids(list []string) (out []int, err error) {
	for _, name := range list {
		id, err := strconv.Atoi(name)
		if err != nil {
			u, err := user.Lookup(name)
			if err != nil {
				return nil, fmt.Errorf("%w: --allow-user: %w", inventory.ErrInvalid, err)
			}
			if id, err = strconv.Atoi(u.Uid); err != nil {
				return nil, err
			}
		}
		out = append(out, id)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
