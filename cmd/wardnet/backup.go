package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/signer"
)

// storeEntry is the store's export inside a backup; everything else is a file
// of the certificate authority under caEntry.
const (
	storeEntry = "store.jsonl"
	caEntry    = "ca/"
	maxCAFile  = 1 << 20
)

// archive writes backups: a tar of the CA's files and one consistent export of
// the store, encrypted to an age recipient.
type archive struct{ p *plane }

// Backup implements [console.Backup].
func (a archive) Backup(ctx context.Context, recipient string, w io.Writer) error {
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return fmt.Errorf("%w: recipient: %v; make a key with age-keygen and give its public half (age1…)", inventory.ErrInvalid, err)
	}
	// tar wants sizes first; the spool has no name and goes with the process.
	spool, err := os.CreateTemp(a.p.cfg.Data, ".backup-*")
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer spool.Close()
	if err := os.Remove(spool.Name()); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if _, err := a.p.db.Backup(ctx, spool); err != nil {
		return err
	}
	enc, err := age.Encrypt(w, to)
	if err != nil {
		return fmt.Errorf("encrypt the backup: %w", err)
	}
	tw := tar.NewWriter(enc)
	if err := addCA(tw, filepath.Join(a.p.cfg.Data, "ca")); err != nil {
		return err
	}
	if err := addSpool(tw, spool); err != nil {
		return err
	}
	return errors.Join(tw.Close(), enc.Close())
}

func addCA(tw *tar.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		// The signer's journal stays with the signer: it is evidence, grows for
		// ever, and a restored copy would tell of nothing.
		if err != nil || !d.Type().IsRegular() || d.Name() == signer.JournalFile {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("back up the CA: %w", err)
		}
		if err := tw.WriteHeader(&tar.Header{Name: caEntry + filepath.ToSlash(rel), Mode: 0o600, Size: int64(len(b)), ModTime: time.Now()}); err != nil {
			return err
		}
		_, err = tw.Write(b)
		return err
	})
}

func addSpool(tw *tar.Writer, spool *os.File) error {
	size, err := spool.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: storeEntry, Mode: 0o600, Size: size, ModTime: time.Now()}); err != nil {
		return err
	}
	_, err = io.Copy(tw, spool)
	return err
}

func newBackup() *cobra.Command {
	var recipient string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "backup FILE",
		Short:   "Write a consistent, encrypted backup while the controller runs",
		Long:    "Write a consistent backup of the store and the certificate authority, encrypted\nto an age recipient. Only the holder of the recipient's secret key can read it.",
		Example: "  age-keygen -o backup.key\n  wardnet backup --recipient age1… wardnet.backup",
		Args:    invalidArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			// Beside its final name, so that a cut-off backup never looks whole.
			tmp, err := os.CreateTemp(filepath.Dir(args[0]), ".wardnet-backup-*")
			if err != nil {
				return fmt.Errorf("backup file: %w", err)
			}
			defer os.Remove(tmp.Name())
			n, err := c.Backup(cmd.Context(), recipient, tmp)
			if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
				return advise(err)
			}
			if err := errors.Join(os.Rename(tmp.Name(), args[0]), syncDir(filepath.Dir(args[0]))); err != nil {
				return fmt.Errorf("backup file: %w", err)
			}
			if asJSON {
				return printJSON(cmd, map[string]any{"file": args[0], "bytes": n, "recipient": recipient})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes, for %s only\n", args[0], n, recipient)
			return nil
		},
	}
	cmd.Flags().StringVar(&recipient, "recipient", "", "age recipient (public key, age1…) who may read it (required)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// unpack writes the CA's files below dir and gives the store's export to use;
// every name is checked, so that an archive cannot write elsewhere.
func unpack(r io.Reader, dir string, use func(io.Reader) error) error {
	tr := tar.NewReader(r)
	found := false
	for {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF) && found:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the backup holds no store", inventory.ErrInvalid)
		case err != nil:
			return fmt.Errorf("%w: read the backup: %w", inventory.ErrInvalid, err)
		}
		if h.Name == storeEntry {
			found = true
			if err := use(tr); err != nil {
				return err
			}
			continue
		}
		rel, ok := strings.CutPrefix(h.Name, caEntry)
		if !ok || !filepath.IsLocal(rel) || h.Typeflag != tar.TypeReg || h.Size > maxCAFile {
			return fmt.Errorf("%w: the backup holds an unexpected entry %q", inventory.ErrInvalid, h.Name)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			return fmt.Errorf("%w: read the backup: %w", inventory.ErrInvalid, err)
		}
		path := filepath.Join(dir, "ca", rel)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := writeSynced(path, b); err != nil {
			return err
		}
	}
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes names made or changed in dir survive power loss.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
