package people

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// SetupStore keeps the one token that makes the first administrator.
type SetupStore interface {
	// PutSetup replaces the token; the old one is void.
	PutSetup(ctx context.Context, hash string, expires time.Time) error
	// SetupValid says whether hash is the token in force at now.
	SetupValid(ctx context.Context, hash string, now time.Time) (bool, error)
	// RedeemSetup, in one transaction: the token is in force, there is no
	// enabled administrator, the user is created, the token is gone. Else
	// [inventory.ErrNotFound] or [inventory.ErrConflict], and nothing changed.
	RedeemSetup(ctx context.Context, hash string, now time.Time, admin User) error
}

// FirstAdmin makes a new one-time token for the first administrator, voiding an
// earlier one. The token is empty when there is an administrator already.
func (d *Directory) FirstAdmin(ctx context.Context) (token string, expires time.Time, err error) {
	users, err := d.deps.Users.Users(ctx)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("first administrator: %w", err)
	}
	if slices.ContainsFunc(users, User.IsAdmin) {
		return "", time.Time{}, nil
	}
	raw := make([]byte, tokenBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", time.Time{}, fmt.Errorf("first administrator: %w", err)
	}
	token = base64.RawURLEncoding.EncodeToString(raw)
	expires = time.Now().UTC().Add(d.cfg.SetupLife)
	if err := d.deps.Setup.PutSetup(ctx, hashSecret(token), expires); err != nil {
		return "", time.Time{}, fmt.Errorf("first administrator: %w", err)
	}
	return token, expires, nil
}

// Redeem turns the one-time token into the first administrator, once.
func (d *Directory) Redeem(ctx context.Context, s client.Setup, addr string) (User, error) {
	try, wait := d.throttle.begin("", addr, time.Now())
	if wait > 0 {
		return User{}, &ThrottledError{Wait: wait}
	}
	// Looked at before the password is hashed: a stranger must not buy
	// expensive work with a guess.
	hash := hashSecret(s.Token)
	ok, err := d.deps.Setup.SetupValid(ctx, hash, time.Now().UTC())
	if err != nil {
		return User{}, fmt.Errorf("redeem the set-up link: %w", err)
	}
	if !ok {
		return User{}, fmt.Errorf("redeem the set-up link: %w", ErrUnauthenticated)
	}
	try.succeeded()
	u, err := d.newUser(ctx, client.User{Name: s.Name, FullName: s.FullName, Roles: []client.Role{client.RoleAdmin}}, s.Password)
	if err != nil {
		return User{}, err
	}
	err = d.deps.Setup.RedeemSetup(ctx, hash, time.Now().UTC(), u)
	if errors.Is(err, inventory.ErrNotFound) { // somebody was faster
		err = ErrUnauthenticated
	}
	if err != nil {
		return User{}, fmt.Errorf("redeem the set-up link: %w", err)
	}
	return u, nil
}

// WriteSetupLink writes the one-time link to path, readable by its owner only,
// in one step. The token stands in the fragment, which browsers do not send.
func WriteSetupLink(path, baseURL, token string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".setup-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the set-up link: %w", err)
	}
	defer os.Remove(f.Name()) // gone after the rename; the error is that
	_, err = f.WriteString(strings.TrimSuffix(baseURL, "/") + "/setup#token=" + token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the set-up link: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write the set-up link: %w", err)
	}
	return nil
}
