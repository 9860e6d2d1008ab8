package main

import (
	"cmp"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/signer"
)

// ceremony are the flags of the ceremony's verbs.
type ceremony struct {
	domain, dir, out, root, key, passphrase, csr, issuer, url string
	revoke                                                    []string
	json                                                      bool
}

// newCertCeremony is "cert ceremony": the root's key on a machine of its own.
func newCertCeremony() *cobra.Command {
	cmd := group(
		"ceremony", "Keep the root's key on a machine of its own, and sign with it there",
		ceremonyVerb("root", "On the offline machine: make a root and its encrypted key", cobra.NoArgs, makeRoot,
			"wardnet cert ceremony root --domain wardnet.hcmc --out /media/root --passphrase-file pass",
			"domain", "out", "passphrase-file"),
		ceremonyVerb("offline", "Take the root's key of an existing CA off the controller, encrypted", cobra.NoArgs, takeOffline,
			"wardnet cert ceremony offline --dir /var/lib/wardnet/ca --out /media/root/root.key.age --passphrase-file pass",
			"dir", "out", "passphrase-file"),
		ceremonyVerb("prepare", "Before the first start: make the issuers' keys for a root whose key is elsewhere", cobra.NoArgs, prepareCA,
			"wardnet cert ceremony prepare --dir /var/lib/wardnet/ca --root root.crt", "dir", "root"),
		ceremonyVerb("csr", "Write what the root has to sign for an issuer's new generation", cobra.ExactArgs(1), writeCSR,
			"wardnet cert ceremony csr devices --out devices.csr\n  wardnet cert ceremony csr devices --dir /var/lib/wardnet/ca --out devices.csr", "dir", "out"),
		ceremonyVerb("sign", "On the offline machine: sign an issuer's CSR with the root's key", cobra.NoArgs, signIssuer,
			"wardnet cert ceremony sign --csr devices.csr --issuer devices --root root.crt --key root.key.age --passphrase-file pass --out devices.crt",
			"csr", "issuer", "root", "key", "passphrase-file", "out", "url"),
		ceremonyVerb("crl", "On the offline machine: sign the root's list of issuers not to be trusted", cobra.NoArgs, signRootCRL,
			"wardnet cert ceremony crl --revoke devices-1.crt --root root.crt --key root.key.age --passphrase-file pass --out root.crl",
			"revoke", "root", "key", "passphrase-file", "out", "url"),
		ceremonyVerb("import", "Hand in what the root signed: an issuer's certificate or the root's list", cobra.ExactArgs(1), importSigned,
			"wardnet cert ceremony import devices.crt\n  wardnet cert ceremony import devices.crt --dir /var/lib/wardnet/ca", "dir"),
	)
	cmd.Long = `Keep the root's key on a machine of its own, and sign with it there.

A new installation: 'root' on the offline machine; 'prepare' at the controller,
then for each issuer 'csr --dir' there, 'sign' offline, 'import --dir'. An
existing one: 'offline' moves the key away; restart the controller after it.
Later generations: 'cert rotate start', 'csr', 'sign' offline, 'import',
'cert rotate next'. The controller runs without the root's key; only new
generations and the root's revocation list need it.`
	return cmd
}

// ceremonyVerb is one verb with the flags it takes.
func ceremonyVerb(use, short string, args cobra.PositionalArgs, run func(*cobra.Command, ceremony, []string) (map[string]any, error), example string, flags ...string) *cobra.Command {
	var c ceremony
	if use == "csr" {
		use += " ISSUER"
	}
	if use == "import" {
		use += " FILE"
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Example: "  " + example, Args: invalidArgs(args),
		RunE: func(cmd *cobra.Command, args []string) error {
			done, err := run(cmd, c, args)
			if err != nil {
				return advise(err)
			}
			if c.json {
				return printJSON(cmd, done)
			}
			for _, k := range []string{"file", "issuer", "generation", "fingerprint", "until", "entries", "next"} {
				if v, ok := done[k]; ok {
					fmt.Fprintf(cmd.OutOrStdout(), "%-11s %v\n", k, v)
				}
			}
			return nil
		},
	}
	all := map[string]struct {
		into *string
		help string
	}{
		"domain":          {&c.domain, "trust domain of every SPIFFE id (required)"},
		"dir":             {&c.dir, "CA directory of a controller that is not running"},
		"out":             {&c.out, "file to write, or for 'root' its directory (required)"},
		"root":            {&c.root, "the root's certificate (required)"},
		"key":             {&c.key, "the root's encrypted key (required)"},
		"passphrase-file": {&c.passphrase, "file (0600) with the passphrase of the root's key (required)"},
		"csr":             {&c.csr, "the issuer's request (required)"},
		"issuer":          {&c.issuer, "devices, services or hub (required)"},
		"url":             {&c.url, "where the root's list is served, e.g. http://hub.example:9446/crl/root.crl"},
	}
	for _, name := range flags {
		if name == "revoke" {
			cmd.Flags().StringArrayVar(&c.revoke, "revoke", nil, "certificate of an issuer generation not to be trusted; may be repeated")
			continue
		}
		cmd.Flags().StringVar(all[name].into, name, "", all[name].help)
	}
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

// need reports every flag that is missing.
func need(flags map[string]string) error {
	var errs []error
	for name, value := range flags {
		if value == "" {
			errs = append(errs, fmt.Errorf("%w: --%s is missing", inventory.ErrInvalid, name))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func makeRoot(_ *cobra.Command, c ceremony, _ []string) (map[string]any, error) {
	if err := need(map[string]string{"domain": c.domain, "out": c.out, "passphrase-file": c.passphrase}); err != nil {
		return nil, err
	}
	key, err := enrol.NewKey()
	if err != nil {
		return nil, err
	}
	root, err := signer.NewRoot(key, c.domain, time.Now())
	if err != nil {
		return nil, err
	}
	text, err := signer.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	sealed, err := seal(text, c.passphrase)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.out, 0o700); err != nil {
		return nil, err
	}
	err = errors.Join(
		writeSynced(filepath.Join(c.out, "root.key.age"), sealed),
		writeSynced(filepath.Join(c.out, "root.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})),
		syncDir(c.out),
	)
	return map[string]any{"file": filepath.Join(c.out, "root.key.age"), "fingerprint": fingerprintOf(root), "until": root.NotAfter.Format(time.DateOnly), "next": "wardnet cert ceremony prepare --root root.crt, at the controller"}, err
}

func takeOffline(_ *cobra.Command, c ceremony, _ []string) (map[string]any, error) {
	if err := need(map[string]string{"dir": c.dir, "out": c.out, "passphrase-file": c.passphrase}); err != nil {
		return nil, err
	}
	release, err := lockCA(c.dir)
	if err != nil {
		return nil, fmt.Errorf("%w; stop the controller first: its signer holds the key in memory", err)
	}
	defer release()
	key, err := signer.LoadKey(c.dir, string(signer.Root))
	if err != nil {
		return nil, err
	}
	text, err := signer.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	sealed, err := seal(text, c.passphrase)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writeSynced(c.out, sealed), syncDir(filepath.Dir(c.out))); err != nil {
		return nil, err
	}
	// What cannot be opened again must not be the only copy.
	again, err := unsealKey(c.out, c.passphrase)
	if err != nil || !again.Equal(key) {
		return nil, fmt.Errorf("the encrypted key in %s does not open: %w; nothing was removed", c.out, err)
	}
	if err := errors.Join(os.Remove(filepath.Join(c.dir, "root.key")), syncDir(c.dir)); err != nil {
		return nil, err
	}
	return map[string]any{"file": c.out, "next": "keep it, its passphrase and root.crt apart and away; old backups of the controller still hold the key"}, nil
}

func prepareCA(_ *cobra.Command, c ceremony, _ []string) (map[string]any, error) {
	if err := need(map[string]string{"dir": c.dir, "root": c.root}); err != nil {
		return nil, err
	}
	root, err := certificateIn(c.root)
	if err != nil {
		return nil, err
	}
	if there, err := signer.Exists(c.dir); err != nil || there {
		return nil, errors.Join(err, fmt.Errorf("%w: %s holds a CA already", inventory.ErrConflict, c.dir))
	}
	if err := signer.Prepare(c.dir, root); err != nil {
		return nil, err
	}
	return map[string]any{"file": c.dir, "fingerprint": fingerprintOf(root), "next": "wardnet cert ceremony csr ISSUER --dir " + c.dir + ", for devices, services and hub"}, nil
}

// withSigner opens the CA in a directory that nobody serves.
func withSigner(dir string, fn func(*signer.Service) error) error {
	release, err := lockCA(dir)
	if err != nil {
		return err
	}
	defer release()
	s, err := signer.Open(dir, signer.Config{}, time.Now())
	if err != nil {
		return err
	}
	return errors.Join(fn(s), s.Close())
}

func writeCSR(cmd *cobra.Command, c ceremony, args []string) (map[string]any, error) {
	if err := need(map[string]string{"out": c.out}); err != nil {
		return nil, err
	}
	var csr []byte
	generation := 0
	waiting := func(ctx context.Context) error {
		if c.dir != "" {
			return withSigner(c.dir, func(s *signer.Service) error {
				st, err := s.State(ctx)
				for _, i := range st.Issuers {
					if string(i.Issuer) == args[0] && i.CSR != nil {
						generation, csr = i.Generation, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: i.CSR})
					}
				}
				return err
			})
		}
		list, err := issuersOf(cmd)
		for _, i := range list {
			for _, g := range i.Generations {
				if i.Issuer == args[0] && g.CSR != "" {
					generation, csr = g.Generation, []byte(g.CSR)
				}
			}
		}
		return err
	}
	if err := waiting(cmd.Context()); err != nil {
		return nil, err
	}
	if csr == nil {
		return nil, fmt.Errorf("%w: no generation of %q waits for the root's signature; begin with 'wardnet cert rotate start'", inventory.ErrNotFound, args[0])
	}
	return map[string]any{"file": c.out, "issuer": args[0], "generation": generation, "next": "wardnet cert ceremony sign, on the machine with the root's key"}, writeSynced(c.out, csr)
}

func issuersOf(cmd *cobra.Command) ([]client.Issuer, error) {
	api, err := dial(cmd)
	if err != nil {
		return nil, err
	}
	defer api.Close()
	return api.Issuers(cmd.Context())
}

func signIssuer(_ *cobra.Command, c ceremony, _ []string) (map[string]any, error) {
	if err := need(map[string]string{"csr": c.csr, "issuer": c.issuer, "root": c.root, "key": c.key, "passphrase-file": c.passphrase, "out": c.out}); err != nil {
		return nil, err
	}
	root, key, err := rootPair(c)
	if err != nil {
		return nil, err
	}
	csr, err := pemIn(c.csr, "CERTIFICATE REQUEST")
	if err != nil {
		return nil, err
	}
	cert, err := signer.SignIssuer(csr, signer.Issuer(c.issuer), root, key, c.url, time.Now())
	if err != nil {
		return nil, err
	}
	return map[string]any{"file": c.out, "issuer": c.issuer, "fingerprint": fingerprintOf(cert), "until": cert.NotAfter.Format(time.DateOnly), "next": "wardnet cert ceremony import " + filepath.Base(c.out) + ", at the controller"},
		writeSynced(c.out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

func signRootCRL(_ *cobra.Command, c ceremony, _ []string) (map[string]any, error) {
	if err := need(map[string]string{"root": c.root, "key": c.key, "passphrase-file": c.passphrase, "out": c.out}); err != nil {
		return nil, err
	}
	root, key, err := rootPair(c)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	entries := []signer.CRLEntry{}
	for _, file := range c.revoke {
		cert, err := certificateIn(file)
		if err == nil {
			err = cert.CheckSignatureFrom(root)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", inventory.ErrInvalid, file, err)
		}
		entries = append(entries, signer.CRLEntry{Serial: enrol.SerialOf(cert), At: now, Reason: 2})
	}
	der, err := signer.SignRootCRL(root, key, uint64(now.UnixMilli()), c.url, entries, now)
	if err != nil {
		return nil, err
	}
	return map[string]any{"file": c.out, "entries": len(entries), "next": "wardnet cert ceremony import " + filepath.Base(c.out)},
		writeSynced(c.out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}
