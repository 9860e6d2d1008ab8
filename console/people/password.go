package people

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/wardnet/wardnet/inventory"
)

// HashParams are the costs of argon2id (RFC 9106).
type HashParams struct {
	Time    uint32 // passes over the memory
	Memory  uint32 // KiB
	Threads uint8  // lanes
}

// DefaultHash is RFC 9106's second recommended choice with one lane, for the
// controller's cores serve the network first: 64 MiB, 3 passes.
var DefaultHash = HashParams{Time: 3, Memory: 64 << 10, Threads: 1}

// Bounds of what is made and of what is read back: below them a hash is weak,
// above them reading a stored one could stall the controller.
const (
	minMemory, maxMemory = 19 << 10, 256 << 10 // KiB; OWASP's minimum at 2 passes
	minTime, maxTime     = 2, 10
	maxThreads           = 8
	minSalt, maxSalt     = 16, 64 // bytes
	minKey, maxKey       = 32, 64
	saltLen, keyLen      = 16, 32
	maxPHC               = 512

	minPassword = 12  // characters
	maxPassword = 256 // bytes
	hashWait    = 5 * time.Second
)

func (p HashParams) check() error {
	if p.Memory < minMemory || p.Memory > maxMemory || p.Time < minTime || p.Time > maxTime || p.Threads < 1 || p.Threads > maxThreads {
		return fmt.Errorf("%w: argon2id t=%d, m=%d KiB, p=%d is outside t %d..%d, m %d..%d, p 1..%d",
			inventory.ErrInvalid, p.Time, p.Memory, p.Threads, minTime, maxTime, minMemory, maxMemory, maxThreads)
	}
	return nil
}

// phc is a parsed PHC string.
type phc struct {
	HashParams
	salt, key []byte
}

func (h phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.Memory, h.Time, h.Threads, b64.EncodeToString(h.salt), b64.EncodeToString(h.key))
}

// parsePHC reads "$argon2id$v=19$m=65536,t=3,p=1$salt$key" and nothing else.
func parsePHC(s string) (phc, error) {
	bad := func(what string) (phc, error) {
		return phc{}, fmt.Errorf("%w: stored password hash: %s", inventory.ErrInvalid, what)
	}
	if len(s) > maxPHC {
		return bad("too long")
	}
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != "v="+strconv.Itoa(argon2.Version) {
		return bad("not argon2id version 19")
	}
	arg := strings.Split(part[3], ",")
	if len(arg) != 3 {
		return bad("m, t and p are needed in this order")
	}
	var n [3]uint64
	for i, name := range []string{"m=", "t=", "p="} {
		v, ok := strings.CutPrefix(arg[i], name)
		u, err := strconv.ParseUint(v, 10, 32)
		if !ok || err != nil || strconv.FormatUint(u, 10) != v {
			return bad("bad parameter " + name)
		}
		n[i] = u
	}
	if n[2] > maxThreads {
		return bad("too many lanes")
	}
	h := phc{HashParams: HashParams{Memory: uint32(n[0]), Time: uint32(n[1]), Threads: uint8(n[2])}}
	if err := h.check(); err != nil {
		return phc{}, err
	}
	b64 := base64.RawStdEncoding.Strict()
	var err error
	if h.salt, err = b64.DecodeString(part[4]); err != nil || len(h.salt) < minSalt || len(h.salt) > maxSalt {
		return bad("bad salt")
	}
	if h.key, err = b64.DecodeString(part[5]); err != nil || len(h.key) < minKey || len(h.key) > maxKey {
		return bad("bad key")
	}
	if h.String() != s { // base64 skips line breaks; one hash has one spelling
		return bad("not in canonical form")
	}
	return h, nil
}

// hasher bounds how much memory and time passwords may take at once.
type hasher struct {
	params HashParams
	slots  chan struct{}
	decoy  phc // verified for unknown users, so that they take as long
}

func newHasher(p HashParams) (*hasher, error) {
	h := &hasher{params: p, slots: make(chan struct{}, max(1, runtime.NumCPU()))}
	h.decoy = phc{HashParams: p, salt: make([]byte, saltLen), key: make([]byte, keyLen)}
	if _, err := rand.Read(h.decoy.salt); err != nil {
		return nil, fmt.Errorf("people: random salt: %w", err)
	}
	if _, err := rand.Read(h.decoy.key); err != nil {
		return nil, fmt.Errorf("people: random key: %w", err)
	}
	return h, nil
}

// run waits for a slot; a queue that does not move is refused, for each waiter
// holds a connection.
func (h *hasher) run(ctx context.Context, fn func()) error {
	ctx, cancel := context.WithTimeoutCause(ctx, hashWait, &ThrottledError{Wait: hashWait})
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
		fn()
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hash makes the PHC string of a password that passed [checkPassword].
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	out := phc{HashParams: h.params, salt: make([]byte, saltLen)}
	if _, err := rand.Read(out.salt); err != nil {
		return "", fmt.Errorf("hash password: random salt: %w", err)
	}
	if err := h.run(ctx, func() { out.key = derive(password, out, keyLen) }); err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return out.String(), nil
}

// verify compares in constant time; a stored hash that cannot be read costs as
// much as one that can, and never matches.
func (h *hasher) verify(ctx context.Context, stored, password string) (bool, error) {
	want, parseErr := parsePHC(stored)
	if parseErr != nil {
		want = h.decoy
	}
	var same bool
	err := h.run(ctx, func() {
		same = subtle.ConstantTimeCompare(derive(password, want, len(want.key)), want.key) == 1
	})
	if err != nil {
		return false, err
	}
	if stored != "" && parseErr != nil {
		return false, parseErr
	}
	return same && parseErr == nil, nil
}

// outdated says whether stored was made with other costs than today's.
func (h *hasher) outdated(stored string) bool {
	p, err := parsePHC(stored)
	return err == nil && p.HashParams != h.params
}

func derive(password string, p phc, n int) []byte {
	return argon2.IDKey([]byte(canonicalPassword(password)), p.salt, p.Time, p.Memory, p.Threads, uint32(n))
}

// canonicalPassword makes the keyboards of different systems agree on "ế".
func canonicalPassword(s string) string { return norm.NFC.String(s) }

// checkPassword asks for length, not for ornaments (NIST SP 800-63B §5.1.1.2).
func checkPassword(name, password string) error {
	var errs []error
	if !utf8.ValidString(password) || len(password) > maxPassword {
		errs = append(errs, fmt.Errorf("%w: password: at most %d bytes of UTF-8", inventory.ErrInvalid, maxPassword))
	} else if n := utf8.RuneCountInString(canonicalPassword(password)); n < minPassword {
		errs = append(errs, fmt.Errorf("%w: password: %d characters; at least %d are needed", inventory.ErrInvalid, n, minPassword))
	}
	if distinct(password) < 5 {
		errs = append(errs, fmt.Errorf("%w: password: at least 5 different characters are needed", inventory.ErrInvalid))
	}
	if len(name) > 3 && strings.Contains(strings.ToLower(password), name) {
		errs = append(errs, fmt.Errorf("%w: password: it must not contain the user name", inventory.ErrInvalid))
	}
	return errors.Join(errs...)
}

func distinct(s string) int {
	seen := map[rune]bool{}
	for _, r := range s {
		seen[r] = true
	}
	return len(seen)
}
