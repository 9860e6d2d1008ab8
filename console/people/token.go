package people

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// TokenPrefix begins every API token, so that scanners find leaked ones.
const TokenPrefix = "wn_"

const tokenBytes = 32

// TokenRow is a stored API token: never the secret, only its hash.
type TokenRow struct {
	client.APIToken
	Hash string // lower-case hex SHA-256 of the whole token
}

// TokenStore keeps API tokens.
type TokenStore interface {
	CreateToken(ctx context.Context, t TokenRow) error
	TokenByHash(ctx context.Context, hash string) (TokenRow, error) // inventory.ErrNotFound
	Tokens(ctx context.Context, user string) ([]TokenRow, error)    // "" means of all users
	DeleteToken(ctx context.Context, id, user string) error         // "" means of any user; inventory.ErrNotFound
}

// Token is what somebody asks of a new API token.
type Token struct {
	Name    string
	Scopes  []client.Role
	Expires time.Time
}

// CreateToken makes a token for by. Its scopes are at most by's roles and it
// outlives no token that made it; break-glass makes none, for it is nobody's.
func (d *Directory) CreateToken(ctx context.Context, by Principal, want Token) (client.APIToken, error) {
	now := time.Now().UTC()
	scopes, err := checkRoles(want.Scopes)
	errs := []error{err}
	for _, s := range scopes {
		if !by.Has(s) {
			errs = append(errs, fmt.Errorf("%w: scope %s: %s does not hold this role", inventory.ErrInvalid, s, by.Name))
		}
	}
	if want.Name == "" || len(want.Name) > 100 {
		errs = append(errs, fmt.Errorf("%w: token name: between 1 and 100 bytes are needed, not %d", inventory.ErrInvalid, len(want.Name)))
	}
	if !want.Expires.After(now) || want.Expires.After(now.Add(d.cfg.TokenLife)) {
		errs = append(errs, fmt.Errorf("%w: token expiry %s: it must lie between now and %s", inventory.ErrInvalid,
			want.Expires.UTC().Format(time.RFC3339), now.Add(d.cfg.TokenLife).Format(time.RFC3339)))
	}
	if by.Via == ViaToken && want.Expires.After(by.Expires) {
		errs = append(errs, fmt.Errorf("%w: token expiry: a token cannot make one that outlives it (%s)", inventory.ErrInvalid, by.Expires.Format(time.RFC3339)))
	}
	if by.Via == ViaBreakGlass {
		errs = append(errs, fmt.Errorf("%w: %s owns no tokens; sign in as a user", inventory.ErrInvalid, by.Name))
	}
	if err := errors.Join(errs...); err != nil {
		return client.APIToken{}, err
	}
	raw := make([]byte, tokenBytes)
	if _, err := rand.Read(raw); err != nil {
		return client.APIToken{}, fmt.Errorf("create token: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return client.APIToken{}, fmt.Errorf("create token: %w", err)
	}
	secret := TokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
	row := TokenRow{Hash: hashSecret(secret), APIToken: client.APIToken{ID: id.String(), User: by.Name, Name: want.Name, Scopes: scopes, Expires: want.Expires.UTC()}}
	if err := d.deps.Tokens.CreateToken(ctx, row); err != nil {
		return client.APIToken{}, fmt.Errorf("create token %s: %w", want.Name, err)
	}
	row.Secret = secret
	return row.APIToken, nil
}

// Tokens lists by's own tokens; those of all users for an administrator or an
// auditor.
func (d *Directory) Tokens(ctx context.Context, by Principal) ([]client.APIToken, error) {
	rows, err := d.deps.Tokens.Tokens(ctx, d.ownOr(by, client.RoleAdmin, client.RoleAuditor))
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	out := make([]client.APIToken, len(rows))
	for i, r := range rows {
		out[i] = r.APIToken
	}
	return out, nil
}

// DeleteToken takes back by's own token, or anybody's for an administrator.
func (d *Directory) DeleteToken(ctx context.Context, by Principal, id string) error {
	if err := d.deps.Tokens.DeleteToken(ctx, id, d.ownOr(by, client.RoleAdmin)); err != nil {
		return fmt.Errorf("delete token %s: %w", id, err)
	}
	return nil
}

func (d *Directory) ownOr(by Principal, all ...client.Role) string {
	if by.Has(all...) {
		return ""
	}
	return by.Name
}

// Bearer finds the principal behind an API token. What it may do is what both
// its scopes and the user's present roles allow.
func (d *Directory) Bearer(ctx context.Context, secret string) (Principal, error) {
	p, err := d.bearer(ctx, secret)
	if err != nil {
		d.metrics.tokens.WithLabelValues("refused").Inc()
		return Principal{}, err
	}
	d.metrics.tokens.WithLabelValues("ok").Inc()
	return p, nil
}

func (d *Directory) bearer(ctx context.Context, secret string) (Principal, error) {
	if !strings.HasPrefix(secret, TokenPrefix) || len(secret) != len(TokenPrefix)+base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return Principal{}, ErrUnauthenticated
	}
	// The index compares hashes of 256 random bits: its timing tells nothing.
	row, err := d.deps.Tokens.TokenByHash(ctx, hashSecret(secret))
	if errors.Is(err, inventory.ErrNotFound) {
		return Principal{}, ErrUnauthenticated
	}
	if err != nil {
		return Principal{}, fmt.Errorf("read token: %w", err)
	}
	if !time.Now().Before(row.Expires) {
		return Principal{}, ErrUnauthenticated
	}
	u, err := d.deps.Users.User(ctx, row.User)
	if errors.Is(err, inventory.ErrNotFound) || (err == nil && u.Disabled) {
		return Principal{}, ErrUnauthenticated
	}
	if err != nil {
		return Principal{}, fmt.Errorf("read the user of a token: %w", err)
	}
	roles := slices.DeleteFunc(slices.Clone(row.Scopes), func(r client.Role) bool { return !slices.Contains(u.Roles, r) })
	return Principal{Name: u.Name, Roles: roles, Via: ViaToken, Expires: row.Expires}, nil
}

func hashSecret(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
