package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/console/people"
	"github.com/wardnet/wardnet/inventory"
)

// SaveSession implements [people.SessionStore].
func (p *People) SaveSession(ctx context.Context, s people.SessionRow) error {
	return p.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(`INSERT INTO people_sessions (org, key, data, expires, seen) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (org, key) DO UPDATE SET data = excluded.data, expires = excluded.expires, seen = excluded.seen`,
			p.org, s.Key, s.Data, s.Expires, s.Seen)
		return err
	})
}

// Session implements [people.SessionStore].
func (p *People) Session(ctx context.Context, key string) (people.SessionRow, error) {
	s := people.SessionRow{Key: key}
	err := p.db.Read(ctx, func(tx *Tx) error {
		var expires, seen string
		err := tx.QueryRow("SELECT data, expires, seen FROM people_sessions WHERE org = ? AND key = ?", p.org, key).Scan(&s.Data, &expires, &seen)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("session: %w", inventory.ErrNotFound)
		}
		if err != nil {
			return err
		}
		if s.Expires, err = ParseTime(expires); err != nil {
			return err
		}
		s.Seen, err = ParseTime(seen)
		return err
	})
	if err != nil {
		return people.SessionRow{}, err
	}
	return s, nil
}

// TouchSession implements [people.SessionStore].
func (p *People) TouchSession(ctx context.Context, key string, seen time.Time) error {
	return p.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec("UPDATE people_sessions SET seen = ? WHERE org = ? AND key = ?", seen, p.org, key)
		return err
	})
}

// DeleteSession implements [people.SessionStore].
func (p *People) DeleteSession(ctx context.Context, key string) error {
	return p.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec("DELETE FROM people_sessions WHERE org = ? AND key = ?", p.org, key)
		return err
	})
}

// DeleteSessionsBefore implements [people.SessionStore].
func (p *People) DeleteSessionsBefore(ctx context.Context, expires, seen time.Time) error {
	return p.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec("DELETE FROM people_sessions WHERE org = ? AND (expires <= ? OR seen <= ?)", p.org, expires, seen)
		return err
	})
}

const tokenColumns = "id, name, owner, scopes, expires, hash"

func scanToken(row scanner) (people.TokenRow, error) {
	var t people.TokenRow
	var scopes, expires string
	err := row.Scan(&t.ID, &t.Name, &t.User, &scopes, &expires, &t.Hash)
	if err != nil {
		return people.TokenRow{}, err
	}
	if err := json.Unmarshal([]byte(scopes), &t.Scopes); err != nil {
		return people.TokenRow{}, fmt.Errorf("scopes of token %s: %w", t.ID, err)
	}
	t.Expires, err = ParseTime(expires)
	return t, err
}

// CreateToken implements [people.TokenStore].
func (p *People) CreateToken(ctx context.Context, t people.TokenRow) error {
	scopes, err := rolesText(t.Scopes)
	if err != nil {
		return err
	}
	return p.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO people_tokens (org, "+tokenColumns+") VALUES (?, ?, ?, ?, ?, ?, ?)",
			p.org, t.ID, t.Name, t.User, scopes, t.Expires, t.Hash)
		return err
	})
}

// TokenByHash implements [people.TokenStore].
func (p *People) TokenByHash(ctx context.Context, hash string) (t people.TokenRow, err error) {
	err = p.db.Read(ctx, func(tx *Tx) error {
		t, err = scanToken(tx.QueryRow("SELECT "+tokenColumns+" FROM people_tokens WHERE org = ? AND hash = ?", p.org, hash))
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("token: %w", inventory.ErrNotFound)
		}
		return err
	})
	return t, err
}

// Tokens implements [people.TokenStore].
func (p *People) Tokens(ctx context.Context, user string) (out []people.TokenRow, err error) {
	err = p.db.Read(ctx, func(tx *Tx) error {
		rows, err := tx.Query("SELECT "+tokenColumns+" FROM people_tokens WHERE org = ? AND (? = '' OR owner = ?) ORDER BY id", p.org, user, user)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			t, err := scanToken(rows)
			if err != nil {
				return err
			}
			out = append(out, t)
		}
		return rows.Err()
	})
	return out, err
}

// DeleteToken implements [people.TokenStore].
func (p *People) DeleteToken(ctx context.Context, id, user string) error {
	return p.db.Write(ctx, func(tx *Tx) error {
		res, err := tx.Exec("DELETE FROM people_tokens WHERE org = ? AND id = ? AND (? = '' OR owner = ?)", p.org, id, user, user)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fmt.Errorf("token %q: %w", id, inventory.ErrNotFound))
		}
		return nil
	})
}
