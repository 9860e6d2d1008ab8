package people

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// Create adds a user. Every fault of the input is reported at once.
func (d *Directory) Create(ctx context.Context, u client.User, password string) (client.User, error) {
	row, err := d.newUser(ctx, u, password)
	if err != nil {
		return client.User{}, err
	}
	if err := d.deps.Users.CreateUser(ctx, row); err != nil {
		return client.User{}, fmt.Errorf("create user %s: %w", u.Name, err)
	}
	return row.User, nil
}

func (d *Directory) newUser(ctx context.Context, u client.User, password string) (User, error) {
	roles, err := checkRoles(u.Roles)
	if err := errors.Join(checkName(u.Name), checkFullName(u.FullName), err, checkPassword(u.Name, password)); err != nil {
		return User{}, err
	}
	hash, err := d.hasher.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	u.Roles, u.LastSeen = roles, nil
	return User{User: u, Password: hash, Generation: 1}, nil
}

// List returns all users by name.
func (d *Directory) List(ctx context.Context) ([]client.User, error) {
	rows, err := d.deps.Users.Users(ctx)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	out := make([]client.User, len(rows))
	for i, r := range rows {
		out[i] = r.User
	}
	return out, nil
}

// Update changes what is set in p. Every change but the full name ends the
// user's sessions. The last enabled administrator cannot be taken away.
func (d *Directory) Update(ctx context.Context, name string, p client.UserPatch) (before, after client.User, err error) {
	var errs []error
	if p.FullName != nil {
		errs = append(errs, checkFullName(*p.FullName))
	}
	if p.Roles != nil {
		p.Roles, err = checkRoles(p.Roles)
		errs = append(errs, err)
	}
	if p.Password != nil {
		errs = append(errs, checkPassword(name, *p.Password))
	}
	if err := errors.Join(errs...); err != nil {
		return client.User{}, client.User{}, err
	}
	var hash string
	if p.Password != nil {
		if hash, err = d.hasher.hash(ctx, *p.Password); err != nil {
			return client.User{}, client.User{}, err
		}
	}
	b, a, err := d.deps.Users.UpdateUser(ctx, name, func(u *User, admins int) error {
		was := u.IsAdmin()
		if p.FullName != nil {
			u.FullName = *p.FullName
		}
		if p.Roles != nil && !slices.Equal(p.Roles, u.Roles) {
			u.Roles = p.Roles
			u.Generation++
		}
		if p.Disabled != nil && *p.Disabled != u.Disabled {
			u.Disabled = *p.Disabled
			u.Generation++
		}
		if hash != "" {
			u.Password = hash
			u.Generation++
		}
		if was && !u.IsAdmin() && admins < 2 {
			return fmt.Errorf("%w: %s is the last enabled administrator; make another one first", inventory.ErrConflict, name)
		}
		return nil
	})
	if err != nil {
		return client.User{}, client.User{}, fmt.Errorf("update user %s: %w", name, err)
	}
	return b.User, a.User, nil
}

// IsAdmin says whether u can manage people now.
func (u User) IsAdmin() bool { return !u.Disabled && slices.Contains(u.Roles, client.RoleAdmin) }

// ChangePassword lets a user change the own password by naming the current one.
func (d *Directory) ChangePassword(ctx context.Context, name, current, next, addr string) error {
	if _, err := d.check(ctx, name, current, addr); err != nil {
		return fmt.Errorf("change password: %w", err)
	}
	_, _, err := d.Update(ctx, name, client.UserPatch{Password: &next})
	return err
}

// Login checks a name and a password given from addr. The error is
// [ErrUnauthenticated] or a [ThrottledError] whatever was wrong, and it takes
// as long for a user that does not exist as for one that does.
func (d *Directory) Login(ctx context.Context, name, password, addr string) (User, error) {
	u, err := d.check(ctx, name, password, addr)
	var slow *ThrottledError
	switch {
	case err == nil:
		d.metrics.logins.WithLabelValues("ok").Inc()
	case errors.As(err, &slow):
		d.metrics.logins.WithLabelValues("throttled").Inc()
		return User{}, err
	default:
		d.metrics.logins.WithLabelValues("refused").Inc()
		return User{}, err
	}
	if d.hasher.outdated(u.Password) {
		if hash, err := d.hasher.hash(ctx, password); err == nil {
			_, _, err = d.deps.Users.UpdateUser(ctx, u.Name, func(now *User, _ int) error {
				if now.Password == u.Password { // nobody changed it meanwhile
					now.Password = hash
				}
				return nil
			})
			if err != nil {
				d.deps.Log.WarnContext(ctx, "password hash not renewed", "user", u.Name, "err", err)
			}
		}
	}
	now := time.Now().UTC()
	if err := d.deps.Users.SeenUser(ctx, u.Name, now); err != nil {
		return User{}, fmt.Errorf("note the login of %s: %w", u.Name, err)
	}
	u.LastSeen = &now
	return u, nil
}

func (d *Directory) check(ctx context.Context, name, password, addr string) (User, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	known := checkName(name) == nil && len(password) <= maxPassword
	if !known {
		name = "" // all impossible names share one counter
	}
	try, wait := d.throttle.begin(name, addr, time.Now())
	if wait > 0 {
		return User{}, &ThrottledError{Wait: wait}
	}
	var u User
	if known {
		var err error
		if u, err = d.deps.Users.User(ctx, name); err != nil && !errors.Is(err, inventory.ErrNotFound) {
			return User{}, fmt.Errorf("read user: %w", err)
		}
	} else {
		password = ""
	}
	same, err := d.hasher.verify(ctx, u.Password, password)
	if err != nil {
		return User{}, fmt.Errorf("check password: %w", err)
	}
	if !same || u.Disabled {
		return User{}, ErrUnauthenticated
	}
	try.succeeded()
	return u, nil
}
