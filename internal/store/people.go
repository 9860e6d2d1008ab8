package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
	"github.com/wardnet/wardnet/inventory"
)

// People keeps users, sessions, API tokens and the first administrator's link
// of one organisation. It implements the four stores of package people.
type People struct {
	db  *DB
	org inventory.OrgID
}

var (
	_ people.UserStore    = (*People)(nil)
	_ people.SessionStore = (*People)(nil)
	_ people.TokenStore   = (*People)(nil)
	_ people.SetupStore   = (*People)(nil)
)

// NewPeople makes the stores over db.
func NewPeople(db *DB, org inventory.OrgID) *People { return &People{db: db, org: org} }

const userColumns = "name, full_name, roles, disabled, password, generation, seen"

type scanner interface{ Scan(dest ...any) error }

func scanUser(row scanner) (people.User, error) {
	var u people.User
	var roles, seen string
	var disabled int64
	if err := row.Scan(&u.Name, &u.FullName, &roles, &disabled, &u.Password, &u.Generation, &seen); err != nil {
		return people.User{}, err
	}
	u.Disabled = disabled != 0
	if err := json.Unmarshal([]byte(roles), &u.Roles); err != nil {
		return people.User{}, fmt.Errorf("roles of user %s: %w", u.Name, err)
	}
	at, err := ParseTime(seen)
	if err != nil {
		return people.User{}, err
	}
	if !at.IsZero() {
		u.LastSeen = &at
	}
	return u, nil
}

func rolesText(roles []client.Role) (string, error) {
	b, err := json.Marshal(roles)
	return string(b), err
}

func (p *People) user(tx *Tx, name string) (people.User, error) {
	u, err := scanUser(tx.QueryRow("SELECT "+userColumns+" FROM people_users WHERE org = ? AND name = ?", p.org, name))
	if errors.Is(err, sql.ErrNoRows) {
		return people.User{}, fmt.Errorf("user %q: %w", name, inventory.ErrNotFound)
	}
	return u, err
}

func (p *People) users(tx *Tx) ([]people.User, error) {
	rows, err := tx.Query("SELECT "+userColumns+" FROM people_users WHERE org = ? ORDER BY name", p.org)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []people.User
	for rows.Next() {
		u, err := scanUser(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, rows.Err()
}

func (p *People) insertUser(tx *Tx, u people.User) error {
	if _, err := p.user(tx, u.Name); !errors.Is(err, inventory.ErrNotFound) {
		if err == nil {
			err = fmt.Errorf("user %q exists: %w", u.Name, inventory.ErrConflict)
		}
		return err
	}
	roles, err := rolesText(u.Roles)
	if err != nil {
		return err
	}
	_, err = tx.Exec("INSERT INTO people_users (org, "+userColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		p.org, u.Name, u.FullName, roles, u.Disabled, u.Password, u.Generation, "")
	return err
}

// CreateUser implements [people.UserStore].
func (p *People) CreateUser(ctx context.Context, u people.User) error {
	return p.db.Write(ctx, func(tx *Tx) error { return p.insertUser(tx, u) })
}

// User implements [people.UserStore].
func (p *People) User(ctx context.Context, name string) (u people.User, err error) {
	err = p.db.Read(ctx, func(tx *Tx) error {
		u, err = p.user(tx, name)
		return err
	})
	return u, err
}

// Users implements [people.UserStore].
func (p *People) Users(ctx context.Context) (us []people.User, err error) {
	err = p.db.Read(ctx, func(tx *Tx) error {
		us, err = p.users(tx)
		return err
	})
	return us, err
}

// UpdateUser implements [people.UserStore].
func (p *People) UpdateUser(ctx context.Context, name string, change func(*people.User, int) error) (before, after people.User, err error) {
	err = p.db.Write(ctx, func(tx *Tx) error {
		// Two updates must not each see the other's administrator.
		if err := tx.Lock("people_users"); err != nil {
			return err
		}
		all, err := p.users(tx)
		if err != nil {
			return err
		}
		if before, err = p.user(tx, name); err != nil {
			return err
		}
		after = before
		if err := change(&after, countAdmins(all)); err != nil {
			return err
		}
		roles, err := rolesText(after.Roles)
		if err != nil {
			return err
		}
		_, err = tx.Exec("UPDATE people_users SET full_name = ?, roles = ?, disabled = ?, password = ?, generation = ? WHERE org = ? AND name = ?",
			after.FullName, roles, after.Disabled, after.Password, after.Generation, p.org, name)
		return err
	})
	if err != nil {
		return people.User{}, people.User{}, err
	}
	return before, after, nil
}

func countAdmins(all []people.User) (n int) {
	for _, u := range all {
		if u.IsAdmin() {
			n++
		}
	}
	return n
}

// SeenUser implements [people.UserStore].
func (p *People) SeenUser(ctx context.Context, name string, at time.Time) error {
	return p.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec("UPDATE people_users SET seen = ? WHERE org = ? AND name = ?", at, p.org, name)
		return err
	})
}

// PutSetup implements [people.SetupStore].
func (p *People) PutSetup(ctx context.Context, hash string, expires time.Time) error {
	return p.db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO people_setup (org, hash, expires) VALUES (?, ?, ?) ON CONFLICT (org) DO UPDATE SET hash = excluded.hash, expires = excluded.expires",
			p.org, hash, expires)
		return err
	})
}

func (p *People) setupValid(tx *Tx, hash string, now time.Time) (bool, error) {
	var n int
	err := tx.QueryRow("SELECT count(*) FROM people_setup WHERE org = ? AND hash = ? AND expires > ?", p.org, hash, FormatTime(now)).Scan(&n)
	return n == 1, err
}

// SetupValid implements [people.SetupStore].
func (p *People) SetupValid(ctx context.Context, hash string, now time.Time) (ok bool, err error) {
	err = p.db.Read(ctx, func(tx *Tx) error {
		ok, err = p.setupValid(tx, hash, now)
		return err
	})
	return ok, err
}

// RedeemSetup implements [people.SetupStore].
func (p *People) RedeemSetup(ctx context.Context, hash string, now time.Time, admin people.User) error {
	return p.db.Write(ctx, func(tx *Tx) error {
		if err := tx.Lock("people_users"); err != nil {
			return err
		}
		ok, err := p.setupValid(tx, hash, now)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("set-up link: %w", inventory.ErrNotFound)
		}
		all, err := p.users(tx)
		if err != nil {
			return err
		}
		if countAdmins(all) > 0 {
			return fmt.Errorf("there is an administrator already: %w", inventory.ErrConflict)
		}
		if err := p.insertUser(tx, admin); err != nil {
			return err
		}
		_, err = tx.Exec("DELETE FROM people_setup WHERE org = ?", p.org)
		return err
	})
}
