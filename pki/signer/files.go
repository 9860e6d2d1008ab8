package signer

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// The CA directory holds <name>.crt and <name>.key of the root and of each
// issuer generation: devices, devices-2, devices-3 and so on; <name>.retired
// marks one that certifies no more. ssh-user.key and ssh-host.key are the SSH
// CAs'. Where controller and signer are one user, the controller's own signing
// keys are there too.

const retiredSuffix = ".retired"

// FileName is the base name of a generation's files.
func FileName(i Issuer, generation int) string {
	if generation == 1 {
		return string(i)
	}
	return string(i) + "-" + strconv.Itoa(generation)
}

// LoadKey reads <name>.key and refuses one that others may read: it may be
// stolen already, and the operator has to know.
func LoadKey(dir, name string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, name+".key")
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w; restore the CA directory from a backup", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s may be read by others (mode %04o); run chmod 600 on it and consider replacing the key", inventory.ErrInvalid, path, info.Mode().Perm())
	}
	der, err := loadPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := k.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%w: %s is not an ECDSA key", inventory.ErrInvalid, path)
	}
	return key, nil
}

// MakeKey adds <name>.key to a CA directory, whole or not at all; the one of
// another process that was first stays.
func MakeKey(dir, name string) error {
	key, err := enrol.NewKey()
	if err != nil {
		return err
	}
	text, err := EncodeKey(key)
	if err != nil {
		return err
	}
	return addFile(dir, name+".key", text)
}

// HasKey says whether <name>.key is in dir.
func HasKey(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name+".key"))
	return err == nil
}

// addFile puts a new file into dir, whole or not at all; one that is there
// already stays. It is on the disk when addFile returns.
func addFile(dir, name string, content []byte) error {
	tmp, err := os.MkdirTemp(dir, ".new-*") // mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := writeSynced(filepath.Join(tmp, name), content); err != nil {
		return err
	}
	if err := os.Link(filepath.Join(tmp, name), filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// replaceFile puts content at dir/name so that a power cut leaves the old
// content or the new.
func replaceFile(dir, name string, content []byte) error {
	tmp, err := os.MkdirTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := writeSynced(filepath.Join(tmp, name), content); err != nil {
		return err
	}
	return errors.Join(os.Rename(filepath.Join(tmp, name), filepath.Join(dir, name)), syncDir(dir))
}

// EncodeKey is a key as its file holds it, PEM.
func EncodeKey(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func encodeCert(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func loadCert(dir, name string) (*x509.Certificate, error) {
	der, err := loadPEM(filepath.Join(dir, name+".crt"), "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s.crt in %s: %w", inventory.ErrInvalid, name, dir, err)
	}
	return c, nil
}

func loadPEM(path, kind string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; restore the CA directory from a backup", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%w: %s is not a PEM %s", inventory.ErrInvalid, path, kind)
	}
	return slices.Clone(block.Bytes), nil
}

// writeSynced writes a new file for its owner alone and waits for the disk.
func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
