package store

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
	"github.com/wardnet/wardnet/inventory"
)

func person(name string, roles ...client.Role) people.User {
	return people.User{User: client.User{Name: name, FullName: "Nguyễn " + name, Roles: roles}, Password: "$argon2id$", Generation: 1}
}

func TestPeopleUsers(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			p, other := NewPeople(db, "hcmc"), NewPeople(db, "other")
			ctx := t.Context()
			if err := p.CreateUser(ctx, person("lan", client.RoleAdmin, client.RoleNOC)); err != nil {
				t.Fatal(err)
			}
			if err := p.CreateUser(ctx, person("lan", client.RoleAuditor)); !errors.Is(err, inventory.ErrConflict) {
				t.Errorf("second lan: %v, want a conflict", err)
			}
			if _, err := other.User(ctx, "lan"); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("another organisation sees lan: %v", err)
			}
			at := time.Date(2026, 3, 1, 2, 3, 4, 5, time.UTC)
			if err := p.SeenUser(ctx, "lan", at); err != nil {
				t.Fatal(err)
			}
			u, err := p.User(ctx, "lan")
			if err != nil || u.FullName != "Nguyễn lan" || !slices.Equal(u.Roles, []client.Role{client.RoleAdmin, client.RoleNOC}) || u.LastSeen == nil || !u.LastSeen.Equal(at) {
				t.Errorf("read back %+v, %v", u, err)
			}
			before, after, err := p.UpdateUser(ctx, "lan", func(u *people.User, admins int) error {
				if admins != 1 {
					t.Errorf("%d administrators, want 1", admins)
				}
				u.Disabled, u.Generation = true, 2
				return nil
			})
			if err != nil || before.Disabled || !after.Disabled {
				t.Errorf("update: %+v → %+v, %v", before, after, err)
			}
			if u, err := p.User(ctx, "lan"); err != nil || !u.Disabled || u.Generation != 2 || u.LastSeen == nil {
				t.Errorf("after the update %+v, %v", u, err)
			}
			if _, _, err := p.UpdateUser(ctx, "nobody", func(*people.User, int) error { return nil }); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("update of nobody: %v", err)
			}
			if us, err := p.Users(ctx); err != nil || len(us) != 1 {
				t.Errorf("%d users, %v", len(us), err)
			}
		})
	}
}

// Two administrators who take each other's role away at once must not both
// succeed.
func TestPeopleLastAdminHolds(t *testing.T) {
	errLast := errors.New("last administrator")
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			p := NewPeople(open(t), "hcmc")
			names := []string{"an", "binh", "chi"}
			for _, n := range names {
				if err := p.CreateUser(t.Context(), person(n, client.RoleAdmin)); err != nil {
					t.Fatal(err)
				}
			}
			var wg sync.WaitGroup
			for _, n := range names {
				wg.Go(func() {
					_, _, err := p.UpdateUser(t.Context(), n, func(u *people.User, admins int) error {
						if admins < 2 {
							return errLast
						}
						u.Disabled = true
						return nil
					})
					if err != nil && !errors.Is(err, errLast) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			us, err := p.Users(t.Context())
			if err != nil || countAdmins(us) != 1 {
				t.Errorf("%d administrators are left, want 1 (%v)", countAdmins(us), err)
			}
		})
	}
}

func TestPeopleSessions(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			p, ctx := NewPeople(open(t), "hcmc"), t.Context()
			now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
			row := people.SessionRow{Key: "k", Data: []byte{0, 1, 255}, Expires: now.Add(time.Hour), Seen: now}
			if err := p.SaveSession(ctx, row); err != nil {
				t.Fatal(err)
			}
			if err := p.TouchSession(ctx, "k", now.Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			got, err := p.Session(ctx, "k")
			if err != nil || !slices.Equal(got.Data, row.Data) || !got.Expires.Equal(row.Expires) || !got.Seen.Equal(now.Add(time.Minute)) {
				t.Errorf("read back %+v, %v", got, err)
			}
			if err := p.DeleteSession(ctx, "k"); err != nil {
				t.Fatal(err)
			}
			if err := p.TouchSession(ctx, "k", now); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Session(ctx, "k"); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("a deleted session came back: %v", err)
			}
			for key, r := range map[string]people.SessionRow{
				"kept":    {Expires: now.Add(time.Hour), Seen: now},
				"expired": {Expires: now, Seen: now},
				"idle":    {Expires: now.Add(time.Hour), Seen: now.Add(-time.Hour)},
			} {
				r.Key, r.Data = key, []byte("x")
				if err := p.SaveSession(ctx, r); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.DeleteSessionsBefore(ctx, now, now.Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
			for key, kept := range map[string]bool{"kept": true, "expired": false, "idle": false} {
				if _, err := p.Session(ctx, key); (err == nil) != kept {
					t.Errorf("session %s: %v, kept should be %t", key, err, kept)
				}
			}
		})
	}
}

func TestPeopleTokensAndSetup(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			p, ctx := NewPeople(open(t), "hcmc"), t.Context()
			now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
			for _, tok := range []people.TokenRow{
				{APIToken: client.APIToken{ID: "1", User: "lan", Name: "ci", Scopes: []client.Role{client.RoleNOC}, Expires: now}, Hash: "h1"},
				{APIToken: client.APIToken{ID: "2", User: "minh", Name: "ci", Scopes: []client.Role{client.RoleNOC}, Expires: now}, Hash: "h2"},
			} {
				if err := p.CreateToken(ctx, tok); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := p.TokenByHash(ctx, "h1"); err != nil || got.ID != "1" || !got.Expires.Equal(now) || got.Secret != "" {
				t.Errorf("read back %+v, %v", got, err)
			}
			all, err1 := p.Tokens(ctx, "")
			own, err2 := p.Tokens(ctx, "minh")
			if err1 != nil || err2 != nil || len(all) != 2 || len(own) != 1 || own[0].ID != "2" {
				t.Errorf("lists %v, %v (%v, %v)", all, own, err1, err2)
			}
			if err := p.DeleteToken(ctx, "1", "minh"); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("minh deleted lan's token: %v", err)
			}
			if err := p.DeleteToken(ctx, "1", "lan"); err != nil {
				t.Error(err)
			}
			if err := p.DeleteToken(ctx, "2", ""); err != nil {
				t.Error(err)
			}

			for _, h := range []string{"old", "new"} {
				if err := p.PutSetup(ctx, h, now.Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.RedeemSetup(ctx, "old", now, person("an", client.RoleAdmin)); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("a replaced link: %v", err)
			}
			if err := p.RedeemSetup(ctx, "new", now.Add(2*time.Hour), person("an", client.RoleAdmin)); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("an expired link: %v", err)
			}
			var wg sync.WaitGroup
			done := make(chan string, 4)
			for _, n := range []string{"an", "binh", "chi", "dung"} {
				wg.Go(func() {
					if p.RedeemSetup(ctx, "new", now, person(n, client.RoleAdmin)) == nil {
						done <- n
					}
				})
			}
			wg.Wait()
			if us, err := p.Users(ctx); err != nil || len(us) != 1 || len(done) != 1 {
				t.Errorf("%d users, %d winners of one link (%v)", len(us), len(done), err)
			}
			if err := p.PutSetup(ctx, "again", now.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if err := p.RedeemSetup(ctx, "again", now, person("em", client.RoleAdmin)); !errors.Is(err, inventory.ErrConflict) {
				t.Errorf("a second first administrator: %v", err)
			}
		})
	}
}
