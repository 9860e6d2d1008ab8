package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
)

// restoreFlags are the flags of restore.
type restoreFlags struct {
	config, identity string
	crls             []string
	none             bool
}

func newRestore() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Restore a backup on an empty machine",
		Long: `Restore a backup into an empty data directory and an empty database.

Certificates revoked after the backup was made must stay revoked: give the
newest CRLs of the old controller (published at http://…:9446/crl/, signed, so
any copy will do), or say that there were none since.`,
		Example: "  wardnet restore wardnet.backup --identity backup.key --data /var/lib/wardnet --crl devices.crl\n  wardnet restore wardnet.backup --identity backup.key --no-later-revocations",
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
			fmt.Fprintf(cmd.OutOrStdout(), "restored %d rows of %d tables as of %s; %d later revocations kept\n", info.Rows, info.Tables, shown(info.At), added)
			return nil
		},
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file")
	cmd.Flags().StringVar(&f.identity, "identity", "", "file (0600) with the age secret key (required)")
	cmd.Flags().StringArrayVar(&f.crls, "crl", nil, "CRL of the old controller, DER or PEM; may be repeated")
	cmd.Flags().BoolVar(&f.none, "no-later-revocations", false, "nothing was revoked since the backup")
	return cmd
}

func restore(ctx context.Context, cfg Config, file string, f restoreFlags, log *slog.Logger) (info store.BackupInfo, added int, err error) {
	secret, err := readSecret(f.identity)
	if err != nil {
		return info, 0, err
	}
	ids, err := age.ParseIdentities(strings.NewReader(secret))
	if err != nil {
		return info, 0, fmt.Errorf("%w: %s holds no age secret key", inventory.ErrInvalid, f.identity) // not the text: it may hold the key
	}
	in, err := os.Open(file)
	if err != nil {
		return info, 0, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	defer in.Close()
	plain, err := age.Decrypt(in, ids...)
	if err != nil {
		return info, 0, fmt.Errorf("%w: %s is not for this key: %w", inventory.ErrInvalid, file, err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, "ca")); err == nil {
		return info, 0, fmt.Errorf("%w: %s holds a controller already; restore into an empty directory", inventory.ErrConflict, cfg.Data)
	}
	release, err := lockData(cfg.Data)
	if err != nil {
		return info, 0, err
	}
	defer release()
	err = unpack(plain, cfg.Data, func(r io.Reader) error {
		info, err = store.Restore(ctx, cfg.DSN, r)
		return err
	})
	if err != nil {
		// Half a CA without its store must not be started by accident.
		return info, 0, errors.Join(err, os.RemoveAll(filepath.Join(cfg.Data, "ca")))
	}
	added, err = keepRevocations(ctx, cfg, f.crls, log)
	return info, added, err
}

// keepRevocations adds what the CRLs know and the backup does not. It runs with
// an empty list too: that moves the peer epoch past those handed out before.
func keepRevocations(ctx context.Context, cfg Config, files []string, log *slog.Logger) (int, error) {
	db, err := store.Open(ctx, cfg.DSN)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	kept := store.NewPKI(db, cfg.Org)
	p, err := pki.Open(ctx, pki.Deps{
		Store: kept, Dir: cfg.Data, Log: log,
		Audit: func(ctx context.Context, e pki.Event) error {
			return (&plane{audit: store.NewAudit(db, cfg.Org)}).auditPKI(ctx, e)
		},
	}, pki.Config{TrustDomain: cfg.TrustDomain})
	if err != nil {
		return 0, err
	}
	var list []pki.Revocation
	for _, file := range files {
		more, err := readCRL(file, p)
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

// readCRL reads one CRL and checks that one of our issuers signed it.
func readCRL(file string, p *pki.PKI) ([]pki.Revocation, error) {
	der, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	if b, _ := pem.Decode(der); b != nil {
		der = b.Bytes
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is no CRL: %w", inventory.ErrInvalid, file, err)
	}
	keyID, ok := p.IssuerOf(crl)
	if !ok {
		return nil, fmt.Errorf("%w: %s is not signed by one of this installation's issuers", inventory.ErrInvalid, file)
	}
	out := make([]pki.Revocation, len(crl.RevokedCertificateEntries))
	for i, e := range crl.RevokedCertificateEntries {
		out[i] = pki.Revocation{
			Serial: e.SerialNumber.Text(16), IssuerKey: keyID, Reason: "listed in a CRL later than the backup", By: "restore",
			At: e.RevocationTime.UTC(), NotAfter: time.Now().UTC().Add(longestLife),
		}
	}
	return out, nil
}
