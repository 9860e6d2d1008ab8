package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/signer"
)

// restoreFlags are the flags of restore.
type restoreFlags struct {
	config, identity string
	crls             []string
	none             bool
}

// restored is what restore prints with --json.
type restored struct {
	Rows             int64     `json:"rows"`
	Tables           int       `json:"tables"`
	At               time.Time `json:"at"`
	LaterRevocations int       `json:"later_revocations"`
}

func newRestore() *cobra.Command {
	var f restoreFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Restore a backup on an empty machine",
		Long: `Restore a backup into an empty data directory and an empty database.

Certificates revoked after the backup was made must stay revoked: give the
newest CRLs of the old controller's devices and services issuers (published at
http://…:9446/crl/, the address is in every certificate; signed, so any copy
will do). --no-later-revocations says that of an issuer whose CRL is not given
nothing was revoked since.`,
		Example: "  wardnet restore wardnet.backup --identity backup.key --data /var/lib/wardnet --crl devices.crl --crl services.crl\n  wardnet restore wardnet.backup --identity backup.key --no-later-revocations",
		Args:    invalidArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			data := ""
			if cmd.Flags().Changed("data") {
				var err error
				if data, err = cmd.Flags().GetString("data"); err != nil {
					return err
				}
			}
			cfg, err := loadConfig(f.config, data)
			if err != nil {
				return err
			}
			if len(f.crls) == 0 && !f.none {
				return fmt.Errorf("%w: what was revoked after this backup was made? give --crl FILE, or --no-later-revocations when nothing was", controller.ErrHeld)
			}
			log, err := logger(cmd.ErrOrStderr(), "warn")
			if err != nil {
				return err
			}
			info, added, err := restore(cmd.Context(), cfg, args[0], f, log)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, restored{info.Rows, info.Tables, info.At, added})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "restored %d rows of %d tables as of %s; %d later revocations kept\n", info.Rows, info.Tables, shown(info.At), added)
			return nil
		},
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file")
	cmd.Flags().StringVar(&f.identity, "identity", "", "file (0600) with the age secret key (required)")
	cmd.Flags().StringArrayVar(&f.crls, "crl", nil, "CRL of the old controller, DER or PEM; may be repeated")
	cmd.Flags().BoolVar(&f.none, "no-later-revocations", false, "of issuers without --crl nothing was revoked since the backup")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// restore puts a backup in force, or leaves everything as it was. The CA comes
// last: serve refuses a database whose CA is missing, so a restore cut half-way
// cannot be started without the later revocations.
func restore(ctx context.Context, cfg Config, file string, f restoreFlags, log *slog.Logger) (info store.BackupInfo, added int, err error) {
	crls, err := parseCRLs(f.crls)
	if err != nil {
		return info, 0, err
	}
	ids, err := readIdentities(f.identity)
	if err != nil {
		return info, 0, err
	}
	in, err := os.Open(file)
	if err != nil {
		return info, 0, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	defer in.Close()
	plain, err := decrypted(in, ids)
	if err != nil {
		return info, 0, err
	}
	ca := filepath.Join(cfg.Data, "ca")
	if _, err := os.Stat(ca); err == nil {
		return info, 0, fmt.Errorf("%w: %s holds a controller already; restore into an empty directory", inventory.ErrConflict, cfg.Data)
	}
	release, err := lockData(cfg.Data)
	if err != nil {
		return info, 0, err
	}
	defer release()
	undo := undoStore(cfg.DSN)
	stage, err := os.MkdirTemp(cfg.Data, ".restore-*") // mode 0700
	if err != nil {
		return info, 0, fmt.Errorf("restore: %w", err)
	}
	defer func() {
		if err = errors.Join(err, os.RemoveAll(stage)); err != nil {
			err = errors.Join(err, undo())
		}
	}()
	err = unpack(plain, stage, func(r io.Reader) error {
		if err := checkCRLs(filepath.Join(stage, "ca"), crls, f.none); err != nil {
			return err
		}
		info, err = store.Restore(ctx, cfg.DSN, r)
		return err
	})
	if err != nil {
		return info, 0, err
	}
	if added, err = keepRevocations(ctx, cfg, stage, crls, log); err != nil {
		return info, 0, err
	}
	return info, added, errors.Join(syncDir(filepath.Join(stage, "ca")), os.Rename(filepath.Join(stage, "ca"), ca), syncDir(cfg.Data))
}

func readIdentities(file string) ([]age.Identity, error) {
	secret, err := readSecret(file)
	if err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(strings.NewReader(secret))
	if err != nil {
		return nil, fmt.Errorf("%w: %s holds no age secret key", inventory.ErrInvalid, file) // not the text: it may hold the key
	}
	return ids, nil
}

// decrypted reads the whole backup once, so that one that was cut off or altered
// is refused before anything is written, and gives it from its beginning.
func decrypted(in *os.File, ids []age.Identity) (io.Reader, error) {
	plain, err := age.Decrypt(in, ids...)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not for this key: %w", inventory.ErrInvalid, in.Name(), err)
	}
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return nil, fmt.Errorf("%w: %s is cut off or altered: %w; fetch it again", inventory.ErrInvalid, in.Name(), err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	return age.Decrypt(in, ids...)
}

// undoStore tells how to take back what restore puts into the database: SQLite
// files that are not there yet. Another database is its administrator's.
func undoStore(dsn string) func() error {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "sqlite" {
		return func() error { return errors.New("the database may be filled; empty it before the next restore") }
	}
	if _, err := os.Stat(u.Path); !errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }
	}
	return func() error {
		var errs []error
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(u.Path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
}

// keepRevocations adds what the CRLs know and the backup does not; the CA is
// below dir. It runs with an empty list too: that moves the peer epoch past
// those handed out before.
func keepRevocations(ctx context.Context, cfg Config, dir string, crls []namedCRL, log *slog.Logger) (added int, err error) {
	db, err := store.Open(ctx, cfg.DSN)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	kept := store.NewPKI(db, cfg.Org)
	p, err := pki.Open(ctx, pki.Deps{
		Store: kept, Dir: dir, Log: log,
		Audit: func(ctx context.Context, e pki.Event) error {
			return (&plane{audit: store.NewAudit(db, cfg.Org)}).auditPKI(ctx, e)
		},
	}, pki.Config{TrustDomain: cfg.TrustDomain})
	if err != nil {
		return 0, err
	}
	var list []pki.Revocation
	for _, crl := range crls {
		more, err := crl.revocations(p)
		if err != nil {
			return 0, err
		}
		list = append(list, more...)
	}
	for i, r := range list {
		if c, err := kept.Certificate(ctx, r.Serial); err == nil {
			list[i].Device, list[i].Lineage, list[i].NotAfter = c.Device, c.Lineage, c.NotAfter
		}
	}
	return p.MergeRevocations(ctx, list, "restore")
}

// longestLife bounds how long a certificate that the backup does not know can
// still be valid; service certificates live 90 days at most.
const longestLife = 90 * 24 * time.Hour

// namedCRL is a revocation list and the file it came from.
type namedCRL struct {
	file string
	list *x509.RevocationList
}

// parseCRLs reads the lists, DER or PEM; every fault is reported at once.
func parseCRLs(files []string) (out []namedCRL, err error) {
	var faults []error
	for _, file := range files {
		der, err := os.ReadFile(file)
		if err != nil {
			faults = append(faults, fmt.Errorf("%w: %w", inventory.ErrInvalid, err))
			continue
		}
		if b, _ := pem.Decode(der); b != nil {
			der = b.Bytes
		}
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			faults = append(faults, fmt.Errorf("%w: %s is no CRL: %w", inventory.ErrInvalid, file, err))
			continue
		}
		out = append(out, namedCRL{file, list})
	}
	return out, errors.Join(faults...)
}

// generationFile is one generation of an issuer in a CA directory.
type generationFile struct {
	issuer  pki.Issuer
	file    string // base name
	retired bool   // nothing of it is accepted any more
}

// generationsIn lists the generations in a CA directory; the first of each
// issuer must be there.
func generationsIn(ca string) (out []generationFile) {
	for _, issuer := range signer.Issuers {
		for n := 1; ; n++ {
			g := generationFile{issuer: issuer, file: signer.FileName(issuer, n)}
			if n > 1 && !exists(filepath.Join(ca, g.file+".crt")) {
				break
			}
			g.retired = exists(filepath.Join(ca, g.file+".retired"))
			out = append(out, g)
		}
	}
	return out
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkCRLs makes sure that every list is ours, and that somebody answers for
// the later revocations of each issuer whose certificates open doors.
func checkCRLs(ca string, crls []namedCRL, none bool) error {
	var errs []error
	given := make([]bool, len(crls))
	for _, g := range generationsIn(ca) {
		text, err := os.ReadFile(filepath.Join(ca, g.file+".crt"))
		if err != nil {
			return fmt.Errorf("%w: the backup has no certificate of the %s issuer: %w", inventory.ErrInvalid, g.issuer, err)
		}
		b, _ := pem.Decode(text)
		if b == nil {
			return fmt.Errorf("%w: the backup's certificate of the %s issuer is not PEM", inventory.ErrInvalid, g.file)
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return fmt.Errorf("%w: the backup's certificate of the %s issuer: %w", inventory.ErrInvalid, g.file, err)
		}
		found := false
		for i, crl := range crls {
			if crl.list.CheckSignatureFrom(cert) == nil {
				given[i], found = true, true
			}
		}
		if !found && !none && !g.retired && g.issuer != pki.Hub {
			errs = append(errs, fmt.Errorf("%w: what did the %s issuer revoke after this backup was made? give its CRL too, or --no-later-revocations when nothing", controller.ErrHeld, g.file))
		}
	}
	for i, ok := range given {
		if !ok {
			return fmt.Errorf("%w: %s is not signed by one of this installation's issuers", inventory.ErrInvalid, crls[i].file)
		}
	}
	return errors.Join(errs...)
}

// revocations are the list's entries, once one of p's issuers is known to have
// signed it.
func (c namedCRL) revocations(p *pki.PKI) ([]pki.Revocation, error) {
	keyID, ok := p.IssuerOf(c.list)
	if !ok {
		return nil, fmt.Errorf("%w: %s is not signed by one of this installation's issuers", inventory.ErrInvalid, c.file)
	}
	out := make([]pki.Revocation, len(c.list.RevokedCertificateEntries))
	for i, e := range c.list.RevokedCertificateEntries {
		out[i] = pki.Revocation{
			Serial: e.SerialNumber.Text(16), IssuerKey: keyID, Reason: "listed in a CRL later than the backup", By: "restore",
			At: e.RevocationTime.UTC(), NotAfter: time.Now().UTC().Add(longestLife),
		}
	}
	return out, nil
}
