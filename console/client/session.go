package client

import (
	"context"
	"fmt"
	"net/http"
)

// SessionCookie is the name of the cookie a login sets.
const SessionCookie = "__Host-wardnet"

// Login signs in; the client sends the session with every later call, unless it
// has a token.
func (c *Client) Login(ctx context.Context, l Login) (Session, error) {
	return c.signIn(ctx, "/session", l)
}

// Setup makes the first administrator and signs in.
func (c *Client) Setup(ctx context.Context, s Setup) (Session, error) {
	return c.signIn(ctx, "/setup", s)
}

func (c *Client) signIn(ctx context.Context, path string, body any) (Session, error) {
	s, header, err := callHeader[Session](ctx, c, request{method: http.MethodPost, path: path, body: body})
	if err != nil {
		return Session{}, err
	}
	for _, ck := range (&http.Response{Header: header}).Cookies() {
		if ck.Name == SessionCookie {
			c.mu.Lock()
			c.cookie, c.csrf = &http.Cookie{Name: ck.Name, Value: ck.Value}, s.CSRF
			c.mu.Unlock()
			return s, nil
		}
	}
	return Session{}, fmt.Errorf("sign in: %w: the server set no session cookie", ErrUnavailable)
}

// Session says who the server takes this client for.
func (c *Client) Session(ctx context.Context) (Session, error) {
	return read[Session](ctx, c, "/session", nil)
}

// Logout ends the session.
func (c *Client) Logout(ctx context.Context) error {
	if err := c.do(ctx, request{method: http.MethodDelete, path: "/session"}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cookie, c.csrf = nil, ""
	return nil
}

// ChangePassword changes the own password; every session ends.
func (c *Client) ChangePassword(ctx context.Context, p PasswordChange) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/session/password", body: p})
}

// Users lists users.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	return read[[]User](ctx, c, "/users", nil)
}

// CreateUser creates a user.
func (c *Client) CreateUser(ctx context.Context, u NewUser) (User, error) {
	return write[User](ctx, c, http.MethodPost, "/users", u)
}

// UpdateUser changes what is set in p.
func (c *Client) UpdateUser(ctx context.Context, name string, p UserPatch) (User, error) {
	return write[User](ctx, c, http.MethodPatch, at("users", name), p)
}

// Tokens lists API tokens.
func (c *Client) Tokens(ctx context.Context) ([]APIToken, error) {
	return read[[]APIToken](ctx, c, "/tokens", nil)
}

// CreateToken makes an API token; its Secret is shown this once.
func (c *Client) CreateToken(ctx context.Context, t NewToken) (APIToken, error) {
	return write[APIToken](ctx, c, http.MethodPost, "/tokens", t)
}

// DeleteToken takes an API token back.
func (c *Client) DeleteToken(ctx context.Context, id string) error {
	return c.do(ctx, request{method: http.MethodDelete, path: at("tokens", id)})
}
