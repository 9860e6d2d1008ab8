package people

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// SessionCookie is the cookie's name; the prefix makes browsers refuse it
// without Secure, with a Domain or with another Path (RFC 6265bis §4.1.3.2).
const SessionCookie = "__Host-wardnet"

// SessionRow is a stored session. Key is a hash of the cookie's value.
type SessionRow struct {
	Key     string
	Data    []byte
	Expires time.Time // absolute
	Seen    time.Time // last use, to the minute
}

// SessionStore keeps sessions.
type SessionStore interface {
	SaveSession(ctx context.Context, s SessionRow) error // inserts or replaces
	Session(ctx context.Context, key string) (SessionRow, error)
	// TouchSession notes a use; a session deleted meanwhile stays deleted.
	TouchSession(ctx context.Context, key string, seen time.Time) error
	DeleteSession(ctx context.Context, key string) error // no error when it is gone
	// DeleteSessionsBefore removes those past expires or unused since seen.
	DeleteSessionsBefore(ctx context.Context, expires, seen time.Time) error
}

// Session keys.
const (
	keyUser       = "user"
	keyGeneration = "generation"
	keyCSRF       = "csrf"
)

type sessions struct{ *scs.SessionManager }

func newSessions(store SessionStore, cfg Config) sessions {
	// Not scs.New: it starts a goroutine for a store that is not used.
	m := &scs.SessionManager{
		Store:            sessionTable{store, cfg.Idle},
		Codec:            scs.GobCodec{},
		Lifetime:         cfg.Lifetime,
		HashTokenInStore: true, // a copy of the database opens no session
	}
	return sessions{m}
}

// StartSession begins a session for u and ends the one behind old, if any, so
// that nobody can fix a session's id beforehand.
func (d *Directory) StartSession(ctx context.Context, u User, old string) (*http.Cookie, Principal, error) {
	fail := func(err error) (*http.Cookie, Principal, error) {
		return nil, Principal{}, fmt.Errorf("start session of %s: %w", u.Name, err)
	}
	if old != "" {
		if _, err := d.EndSession(ctx, old); err != nil {
			return fail(err)
		}
	}
	now := time.Now().UTC()
	if err := d.deps.Sessions.DeleteSessionsBefore(ctx, now, now.Add(-d.cfg.Idle)); err != nil {
		return fail(err)
	}
	ctx, err := d.sessions.Load(ctx, "")
	if err != nil {
		return fail(err)
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return fail(err)
	}
	csrf := base64.RawURLEncoding.EncodeToString(raw)
	d.sessions.Put(ctx, keyUser, u.Name)
	d.sessions.Put(ctx, keyGeneration, u.Generation)
	d.sessions.Put(ctx, keyCSRF, csrf)
	token, expires, err := d.sessions.Commit(ctx)
	if err != nil {
		return fail(err)
	}
	// No Expires: the cookie ends with the browser, the session earlier.
	return cookie(token), Principal{Name: u.Name, Roles: u.Roles, Via: ViaSession, CSRF: csrf, Expires: expires}, nil
}

func cookie(value string) *http.Cookie {
	return &http.Cookie{Name: SessionCookie, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// Session finds the principal behind a cookie's value.
func (d *Directory) Session(ctx context.Context, token string) (Principal, error) {
	sctx, err := d.sessions.Load(ctx, token)
	if err != nil {
		return Principal{}, fmt.Errorf("load session: %w", err)
	}
	name := d.sessions.GetString(sctx, keyUser)
	if name == "" {
		return Principal{}, ErrUnauthenticated
	}
	u, err := d.deps.Users.User(ctx, name)
	if errors.Is(err, inventory.ErrNotFound) {
		return Principal{}, ErrUnauthenticated
	}
	if err != nil {
		return Principal{}, fmt.Errorf("read the user of a session: %w", err)
	}
	if u.Disabled || u.Generation != d.sessions.GetInt64(sctx, keyGeneration) {
		return Principal{}, ErrUnauthenticated
	}
	return Principal{Name: u.Name, Roles: u.Roles, Via: ViaSession, CSRF: d.sessions.GetString(sctx, keyCSRF), Expires: d.sessions.Deadline(sctx)}, nil
}

// EndSession deletes the session behind a cookie's value and returns the cookie
// that makes the browser forget it.
func (d *Directory) EndSession(ctx context.Context, token string) (*http.Cookie, error) {
	sctx, err := d.sessions.Load(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("load session: %w", err)
	}
	if err := d.sessions.Destroy(sctx); err != nil {
		return nil, fmt.Errorf("end session: %w", err)
	}
	c := cookie("")
	c.MaxAge = -1
	return c, nil
}

// User returns what p's user record says; a break-glass principal has none and
// gets one made up from the principal.
func (d *Directory) User(ctx context.Context, p Principal) (client.User, error) {
	if p.Via == ViaBreakGlass {
		return client.User{Name: p.Name, FullName: p.Name, Roles: p.Roles}, nil
	}
	u, err := d.deps.Users.User(ctx, p.Name)
	if err != nil {
		return client.User{}, fmt.Errorf("read user %s: %w", p.Name, err)
	}
	u.Roles = p.Roles // a token may hold fewer
	return u.User, nil
}

// SameCSRF compares a request's token with the session's in constant time.
func (p Principal) SameCSRF(got string) bool {
	return p.CSRF != "" && subtle.ConstantTimeCompare([]byte(p.CSRF), []byte(got)) == 1
}

// sessionTable is scs's view of a [SessionStore]. It ends idle sessions itself:
// scs would write every session on every request to do so.
type sessionTable struct {
	store SessionStore
	idle  time.Duration
}

var _ scs.CtxStore = sessionTable{}

func (t sessionTable) FindCtx(ctx context.Context, key string) ([]byte, bool, error) {
	row, err := t.store.Session(ctx, key)
	if errors.Is(err, inventory.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	now := time.Now().UTC()
	unused := now.Sub(row.Seen)
	if !now.Before(row.Expires) || unused >= t.idle {
		return nil, false, nil
	}
	if unused >= min(time.Minute, t.idle/4) {
		if err := t.store.TouchSession(ctx, key, now); err != nil {
			return nil, false, err
		}
	}
	return row.Data, true, nil
}

func (t sessionTable) CommitCtx(ctx context.Context, key string, data []byte, expires time.Time) error {
	return t.store.SaveSession(ctx, SessionRow{Key: key, Data: data, Expires: expires.UTC(), Seen: time.Now().UTC()})
}

func (t sessionTable) DeleteCtx(ctx context.Context, key string) error {
	return t.store.DeleteSession(ctx, key)
}

// The methods without a context complete scs.Store; scs prefers the others.

func (t sessionTable) Find(key string) ([]byte, bool, error) {
	return t.FindCtx(context.Background(), key)
}

func (t sessionTable) Commit(key string, data []byte, expires time.Time) error {
	return t.CommitCtx(context.Background(), key, data, expires)
}

func (t sessionTable) Delete(key string) error { return t.DeleteCtx(context.Background(), key) }
