// Package redact takes secrets out of what devices answer before it is stored,
// compared or logged. In the place of each stays a keyed fingerprint: equal
// secrets look equal and a changed one shows as a change, but without the key
// nobody can try values until one fits.
package redact

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// keySize is the length of the fingerprint key, bytes (RFC 2104 §3: the hash's
// own length).
const keySize = sha256.Size

// Redactor replaces secrets; make one with [New] or [Open].
type Redactor struct{ key []byte }

// New makes a redactor with a key of 32 bytes.
func New(key []byte) (*Redactor, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("make a redactor: the key has %d bytes, not %d", len(key), keySize)
	}
	return &Redactor{key}, nil
}

// Open makes a redactor with the key in a file, which it makes where there is
// none. The file is readable by its owner only; one that is lost costs that
// every secret looks changed once.
func Open(path string) (*Redactor, error) {
	key, err := os.ReadFile(path)
	switch {
	case err == nil && len(key) == keySize:
		return New(key)
	case err == nil:
		return nil, fmt.Errorf("open the fingerprint key: %s has %d bytes, not %d; restore it from the backup, or remove it to make a new one", path, len(key), keySize)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open the fingerprint key: %w", err)
	}
	key = make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make the fingerprint key: %w", err)
	}
	if err := write(path, key); err != nil {
		return nil, fmt.Errorf("make the fingerprint key: %w", err)
	}
	return New(key)
}

// write makes a file whole or not at all.
func write(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".fingerprint-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // once renamed there is nothing to remove
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Fingerprint stands for a secret: 64 bits of HMAC-SHA-256 (RFC 2104).
func (r *Redactor) Fingerprint(secret string) string {
	m := hmac.New(sha256.New, r.key)
	m.Write([]byte(secret))
	return "<redacted-" + hex.EncodeToString(m.Sum(nil)[:8]) + ">"
}

// Text returns text with every secret that is recognised replaced.
func (r *Redactor) Text(text string) string {
	text = pem.ReplaceAllStringFunc(text, r.Fingerprint)
	var out strings.Builder
	out.Grow(len(text))
	for line := range strings.Lines(text) {
		body, end := strings.TrimRight(line, "\r\n"), ""
		end = line[len(body):]
		out.WriteString(r.line(body))
		out.WriteString(end)
	}
	return out.String()
}

// line replaces the secrets of one line. A cheap look spares most lines the
// patterns.
func (r *Redactor) line(line string) string {
	if !suspicious.MatchString(line) {
		return line
	}
	for _, p := range patterns {
		line = r.replace(p, line)
	}
	return line
}

// replace puts fingerprints in the place of the groups of p.
func (r *Redactor) replace(p *regexp.Regexp, line string) string {
	var out strings.Builder
	at := 0
	for _, m := range p.FindAllStringSubmatchIndex(line, -1) {
		for g := 1; 2*g < len(m); g++ {
			from, to := m[2*g], m[2*g+1]
			if from < at || from == to || isFingerprint(line[from:to]) {
				continue
			}
			out.WriteString(line[at:from])
			out.WriteString(r.Fingerprint(line[from:to]))
			at = to
		}
	}
	if at == 0 {
		return line
	}
	out.WriteString(line[at:])
	return out.String()
}

func isFingerprint(s string) bool { return strings.HasPrefix(strings.Trim(s, `"'`), "<redacted-") }
