package people

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

var cheap = HashParams{Time: 2, Memory: 19 << 10, Threads: 1}

// memory is a store of the parts these tests need; the real ones are tested in
// internal/store.
type memory struct {
	UserStore
	TokenStore
	SetupStore
	mu       sync.Mutex
	user     User
	sessions map[string]SessionRow
}

func (m *memory) User(_ context.Context, name string) (User, error) {
	if name != m.user.Name {
		return User{}, inventory.ErrNotFound
	}
	return m.user, nil
}

func (m *memory) SaveSession(_ context.Context, s SessionRow) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[s.Key] = s
	return nil
}

func (m *memory) Session(_ context.Context, key string) (SessionRow, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[key]
	if !ok {
		return s, inventory.ErrNotFound
	}
	return s, nil
}

func (m *memory) TouchSession(_ context.Context, key string, seen time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.sessions[key]; ok {
		s.Seen = seen
		m.sessions[key] = s
	}
	return nil
}

func (m *memory) DeleteSession(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, key)
	return nil
}

func (m *memory) DeleteSessionsBefore(context.Context, time.Time, time.Time) error { return nil }

func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{sessions: map[string]SessionRow{}, user: User{User: client.User{Name: "lan", Roles: []client.Role{client.RoleNOC}}, Generation: 1}}
		d, err := New(Deps{Users: m, Sessions: m, Tokens: m, Setup: m, Log: slog.New(slog.DiscardHandler)}, Config{Hash: cheap, Idle: 30 * time.Minute, Lifetime: 12 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		start := func() string {
			ck, _, err := d.StartSession(t.Context(), m.user, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := m.sessions[ck.Value]; ok {
				t.Error("the cookie's value is stored as it is")
			}
			return ck.Value
		}
		alive := func(token string) bool {
			_, err := d.Session(t.Context(), token)
			if err != nil && !errors.Is(err, ErrUnauthenticated) {
				t.Fatal(err)
			}
			return err == nil
		}
		idle := start()
		time.Sleep(29 * time.Minute)
		if !alive(idle) {
			t.Error("ended before the idle time")
		}
		time.Sleep(30 * time.Minute)
		if alive(idle) {
			t.Error("lives past the idle time")
		}
		busy := start()
		for range 12*60/20 - 1 {
			time.Sleep(20 * time.Minute)
			if !alive(busy) {
				t.Fatal("a session in use ended early")
			}
		}
		time.Sleep(20 * time.Minute)
		if alive(busy) {
			t.Error("use prolongs a session past its lifetime")
		}
		old := start()
		m.user.Generation++
		if alive(old) {
			t.Error("a session survives a change of password")
		}
		gone := start()
		if _, err := d.EndSession(t.Context(), gone); err != nil || alive(gone) || len(m.sessions[gone].Data) > 0 {
			t.Errorf("a session that was ended: %v", err)
		}
		if alive("") || alive("forged") {
			t.Error("a forged cookie opens something")
		}
	})
}

func TestPasswords(t *testing.T) {
	h, err := newHasher(cheap)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := h.hash(t.Context(), "đèn lồng Hội An")
	if err != nil || !strings.HasPrefix(stored, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatal(stored, err)
	}
	for password, want := range map[string]bool{
		"đèn lồng Hội An":                        true,
		"de\u0300n l\u00f4\u0300ng Hội An":       false, // d is not đ
		"\u0111e\u0300n lồng Ho\u0302\u0323i An": true,  // the same, decomposed by another keyboard
		"": false,
	} {
		if got, err := h.verify(t.Context(), stored, password); err != nil || got != want {
			t.Errorf("%+q: %t, %v", password, got, err)
		}
	}
	if ok, err := h.verify(t.Context(), "", "anything"); ok || err != nil {
		t.Errorf("no such user: %t, %v", ok, err)
	}
	if ok, err := h.verify(t.Context(), "$2y$10$bcrypt", "anything"); ok || err == nil {
		t.Errorf("a foreign hash: %t, %v", ok, err)
	}
	if h.outdated(stored) || !(&hasher{params: DefaultHash}).outdated(stored) {
		t.Error("old costs are not told from new ones")
	}
	for password, want := range map[string]string{
		"short": "at least 12", "aaaaaaaaaaaaaaa": "5 different", "lantern-lantern": "user name", strings.Repeat("xyzuvw", 60): "at most 256", "good enough phrase": "",
	} {
		err := checkPassword("lantern", password)
		if (want == "") != (err == nil) || (err != nil && (!strings.Contains(err.Error(), want) || !errors.Is(err, inventory.ErrInvalid))) {
			t.Errorf("%q: %v, want %q", password, err, want)
		}
	}
}

// Whatever is read back as a hash is within the bounds and is spelt one way.
func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$AAAA$AAAA")
	f.Add("$argon2i$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AA")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parsePHC(s)
		if err != nil {
			if !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if h.check() != nil || len(h.salt) < minSalt || len(h.key) < minKey || h.String() != s {
			t.Errorf("%q reads as %+v", s, h)
		}
	})
}

// In any order of guesses, and at any pace, no more than the free ones and what
// the pauses allow are looked at; a stranger elsewhere never stops the owner.
func TestThrottleBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		th, now := newThrottle(), time.Unix(1_800_000_000, 0)
		start, tried := now, 0
		steps := rapid.SliceOfN(rapid.IntRange(0, 30_000), 1, 300).Draw(t, "pauses ms")
		for _, ms := range steps {
			now = now.Add(time.Duration(ms) * time.Millisecond)
			if _, wait := th.begin("lan", "203.0.113.7:1000", now); wait == 0 {
				tried++
			} else if wait > maxWait {
				t.Fatalf("wait %s", wait)
			}
		}
		spent, most := now.Sub(start), freePerPair
		for n := freePerPair; spent >= 0 && most < tried; n++ { // the cheapest schedule
			spent -= pause(n, freePerPair)
			most++
		}
		if tried > most {
			t.Fatalf("%d attempts within %s, want at most %d", tried, now.Sub(start), most)
		}
		if _, wait := th.begin("lan", "198.51.100.1:1", now); wait != 0 {
			t.Fatalf("the owner waits %s elsewhere", wait)
		}
	})
}

func TestThrottleForgetsAndIsBounded(t *testing.T) {
	th, now := newThrottle(), time.Unix(1_800_000_000, 0)
	for range 30 {
		a, wait := th.begin("lan", "[2001:db8::1]:1", now)
		if wait != 0 {
			t.Fatal("a user who succeeds is slowed down")
		}
		a.succeeded()
	}
	if len(th.tries) != 0 {
		t.Errorf("%d counters are left", len(th.tries))
	}
	for range freePerPair + 1 {
		th.begin("lan", "[2001:db8::1]:1", now)
	}
	if _, wait := th.begin("lan", "[2001:db8::ffff]:9", now); wait == 0 {
		t.Error("another host of the same /64 guesses on")
	}
	if _, wait := th.begin("lan", "[2001:db8::1]:1", now.Add(forget+time.Second)); wait != 0 {
		t.Errorf("an hour later: wait %s", wait)
	}
	for i := range maxTracked + 100 {
		th.begin(strings.Repeat("x", i%50), time.Duration(i).String(), now)
	}
	if len(th.tries) > maxTracked {
		t.Errorf("%d counters", len(th.tries))
	}
}

func TestWriteSetupLink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "first-admin.url")
	for range 2 { // replacing an old one
		if err := WriteSetupLink(path, "https://hub.example:8443/", "tok"); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	b, err := os.ReadFile(path)
	if err != nil || string(b) != "https://hub.example:8443/setup#token=tok\n" {
		t.Errorf("%q, %v", b, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".setup-*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}
