package console

import (
	"context"
	"errors"
	"net/http"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
)

// withCookie is an answer that sets or removes the session cookie.
type withCookie[T any] struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
	Body      T
}

func (c *Console) registerPeople() {
	write(c, post("/session", "login", "session", "Sign in"), c.login)
	read(c, get("/session", "get-session", "session", "Who am I"), c.session)
	write(c, route(http.MethodDelete, "/session", "logout", "session", "Sign out"), c.logout)
	write(c, post("/session/password", "change-password", "session", "Change the own password"), c.changePassword)
	write(c, post("/setup", "setup", "session", "Make the first administrator, once"), c.setup)

	read(c, get("/users", "list-users", "people", "List users"), func(ctx context.Context, _ *nothing) (*answer[[]client.User], error) {
		return listed(c.deps.People.List(ctx))
	})
	op := post("/users", "create-user", "people", "Create a user")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.createUser)
	write(c, route(http.MethodPatch, "/users/{name}", "update-user", "people", "Change a user"), c.updateUser)

	read(c, get("/tokens", "list-tokens", "people", "List API tokens: one's own, or all for an administrator"), func(ctx context.Context, _ *nothing) (*answer[[]client.APIToken], error) {
		return listed(c.deps.People.Tokens(ctx, principal(ctx)))
	})
	op = post("/tokens", "create-token", "people", "Create an API token; the secret is shown once")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.createToken)
	write(c, route(http.MethodDelete, "/tokens/{id}", "delete-token", "people", "Take an API token back"), c.deleteToken)
}

func (c *Console) login(ctx context.Context, in *struct{ Body client.Login }) (*withCookie[client.Session], error) {
	t := trailOf(ctx)
	t.name = clip(in.Body.Name)
	u, err := c.deps.People.Login(ctx, in.Body.Name, in.Body.Password, t.from)
	if err != nil {
		c.countRefusal(err)
		return nil, err
	}
	return c.begin(ctx, u)
}

// countRefusal counts refusals that only the operation itself can see.
func (c *Console) countRefusal(err error) {
	var slow *people.ThrottledError
	switch {
	case errors.As(err, &slow):
		c.metrics.refused.WithLabelValues("throttled").Inc()
	case errors.Is(err, people.ErrUnauthenticated):
		c.metrics.refused.WithLabelValues("unauthenticated").Inc()
	}
}

func (c *Console) begin(ctx context.Context, u people.User) (*withCookie[client.Session], error) {
	t := trailOf(ctx)
	cookie, p, err := c.deps.People.StartSession(ctx, u, t.cookie)
	if err != nil {
		return nil, err
	}
	t.by = p
	about(ctx, "user/"+u.Name)
	return &withCookie[client.Session]{SetCookie: *cookie, Body: client.Session{User: u.User, CSRF: p.CSRF}}, nil
}

func (c *Console) setup(ctx context.Context, in *struct{ Body client.Setup }) (*withCookie[client.Session], error) {
	t := trailOf(ctx)
	t.name = clip(in.Body.Name)
	u, err := c.deps.People.Redeem(ctx, in.Body, t.from)
	if errors.Is(err, people.ErrUnauthenticated) {
		c.countRefusal(err)
		return nil, &client.Problem{
			Status: http.StatusUnauthorized, Title: http.StatusText(http.StatusUnauthorized), Detail: "this set-up link is not valid: it is used, expired or replaced",
			Hint: "restart wardnet serve for a new link, while there is no administrator",
		}
	}
	if err != nil {
		c.countRefusal(err)
		return nil, err
	}
	changed(ctx, nil, u.User)
	return c.begin(ctx, u)
}

func (c *Console) session(ctx context.Context, _ *nothing) (*answer[client.Session], error) {
	p := principal(ctx)
	u, err := c.deps.People.User(ctx, p)
	return answered(client.Session{User: u, CSRF: p.CSRF}, err)
}

func (c *Console) logout(ctx context.Context, _ *nothing) (*struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}, error,
) {
	t := trailOf(ctx)
	about(ctx, "user/"+t.by.Name)
	cookie, err := c.deps.People.EndSession(ctx, t.cookie)
	if err != nil {
		return nil, err
	}
	return &struct {
		SetCookie http.Cookie `header:"Set-Cookie"`
	}{*cookie}, nil
}

func (c *Console) changePassword(ctx context.Context, in *struct{ Body client.PasswordChange }) (*nothing, error) {
	t := trailOf(ctx)
	about(ctx, "user/"+t.by.Name)
	if t.by.Via != people.ViaSession {
		return nil, &client.Problem{Status: http.StatusForbidden, Title: http.StatusText(http.StatusForbidden), Detail: "a password is changed by its owner, signed in", Hint: "sign in to the console"}
	}
	err := c.deps.People.ChangePassword(ctx, t.by.Name, in.Body.Current, in.Body.New, t.from)
	if errors.Is(err, people.ErrUnauthenticated) {
		c.countRefusal(err)
		return nil, &client.Problem{Status: http.StatusForbidden, Title: http.StatusText(http.StatusForbidden), Detail: "the current password is not right", Hint: "ask an administrator to set a new one"}
	}
	return &nothing{}, err
}

func (c *Console) createUser(ctx context.Context, in *struct{ Body client.NewUser }) (*answer[client.User], error) {
	n := in.Body
	about(ctx, "user/"+clip(n.Name))
	u, err := c.deps.People.Create(ctx, client.User{Name: n.Name, FullName: n.FullName, Roles: n.Roles}, n.Password)
	changed(ctx, nil, u)
	return answered(u, err)
}

func (c *Console) updateUser(ctx context.Context, in *struct {
	Name string `path:"name" maxLength:"64"`
	Body client.UserPatch
},
) (*answer[client.User], error) {
	about(ctx, "user/"+in.Name)
	before, after, err := c.deps.People.Update(ctx, in.Name, in.Body)
	if err == nil {
		type entry struct {
			client.User
			PasswordChanged bool `json:"password_changed,omitempty"`
		}
		changed(ctx, before, entry{after, in.Body.Password != nil})
	}
	return answered(after, err)
}

func (c *Console) createToken(ctx context.Context, in *struct{ Body client.NewToken }) (*answer[client.APIToken], error) {
	tok, err := c.deps.People.CreateToken(ctx, principal(ctx), people.Token{Name: in.Body.Name, Scopes: in.Body.Scopes, Expires: in.Body.Expires})
	if err == nil {
		shown := tok
		shown.Secret = ""
		about(ctx, "token/"+tok.ID)
		changed(ctx, nil, shown)
	}
	return answered(tok, err)
}

func (c *Console) deleteToken(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"64"`
},
) (*nothing, error) {
	about(ctx, "token/"+in.ID)
	return &nothing{}, c.deps.People.DeleteToken(ctx, principal(ctx), in.ID)
}

// clip bounds what a stranger can put into the audit log.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
