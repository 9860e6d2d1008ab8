package cli

import (
	"crypto/rand"
	"strings"
	"sync"

	"github.com/wardnet/wardnet/edge/redact"
)

// throwaway is a redactor whose fingerprints mean nothing after the process.
var throwaway = sync.OnceValue(func() *redact.Redactor {
	key := make([]byte, 32)
	rand.Read(key) //nolint:errcheck // never fails, crypto/rand
	r, err := redact.New(key)
	if err != nil {
		panic(err) // the length is right
	}
	return r
})

// vault keeps the secrets of lines that were read, so that they need not leave
// the Box: others see a fingerprint. A line whose secret the Box has not read
// since it was made cannot be written.
type vault struct {
	redactor *redact.Redactor
	mu       sync.Mutex
	lines    map[string]string // whole lines by what others see
}

func newVault(r *redact.Redactor) *vault {
	if r == nil {
		r = throwaway()
	}
	return &vault{redactor: r, lines: map[string]string{}}
}

// hide gives the line as others may see it.
func (v *vault) hide(line string) string {
	out := v.redactor.Text(line)
	if out != line {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.lines[out] = line
	}
	return out
}

// path takes a stray's path apart; false: a secret in it is not known.
func (v *vault) path(s string) ([]string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	lines := strings.Split(s, strayUnder)
	for i, line := range lines {
		if whole, ok := v.lines[line]; ok {
			lines[i] = whole
		} else if strings.Contains(line, "<redacted-") {
			return nil, false
		}
	}
	return lines, true
}
