package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/wardnet/wardnet/console/client"
)

// center is a running "wardnet serve": another process, on free ports of the
// loopback, with its data directory below dir.
type center struct {
	dir     string
	serving client.Serving
	cmd     *exec.Cmd
	ended   chan error
	stopped bool
}

// crew are the users of the tests beside admin.
var crew = map[string][]client.Role{
	"lan":  {client.RoleEngineer, client.RoleNOC},
	"minh": {client.RoleEngineer},
	"an":   {client.RoleSecurity},
	"kiem": {client.RoleAuditor},
}

// startCenter starts the controller of dir and waits until it serves.
func startCenter(dir string) (*center, error) {
	conf := filepath.Join(dir, "wardnet.yaml")
	if _, err := os.Stat(conf); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(conf, []byte(freePorts(filepath.Join(dir, "data"))), 0o600); err != nil {
			return nil, err
		}
	}
	c := &center{dir: dir, ended: make(chan error, 1)}
	c.cmd = exec.Command("wardnet", "serve", "--config", conf, "--json")
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.cmd.Stderr = log
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	first := make(chan error, 1)
	go func() {
		line, err := bufio.NewReader(out).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &c.serving)
		}
		first <- err
		c.ended <- c.cmd.Wait()
	}()
	select {
	case err = <-first:
	case <-time.After(time.Minute):
		err = errors.New("silent for a minute")
	}
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("wardnet serve: %w\n%s", err, text), c.cmd.Process.Kill())
	}
	return c, nil
}

// freePorts is a configuration whose listeners all take any free port.
func freePorts(data string) string {
	conf := fmt.Sprintf("data: %q\nnames: [127.0.0.1, localhost]\nlisten:\n", data)
	for _, l := range []string{"console", "pep", "devices", "ca", "enrol", "status", "metrics"} {
		conf += "  " + l + ": 127.0.0.1:0\n"
	}
	return conf
}

// stop ends the controller as an init system does; it must end cleanly.
func (c *center) stop() error {
	if c.stopped {
		return nil
	}
	c.stopped = true
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-c.ended:
		return err
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("wardnet serve did not end within 20 s of SIGTERM"), c.cmd.Process.Kill())
	}
}

func (c *center) client() (*client.Client, error) {
	return client.New(client.Config{Server: "https://" + c.serving.Console, RootCA: c.serving.Root})
}

// as are the flags that make the CLI talk to c as a user.
func (c *center) as(user string) []string {
	return []string{"--server", "https://" + c.serving.Console, "--ca", c.serving.Root, "--token-file", c.tokenFile(user)}
}

func (c *center) tokenFile(user string) string { return filepath.Join(c.dir, user+".token") }

func (c *center) passwordFile(user string) string { return filepath.Join(c.dir, user+".password") }

// first redeems the first administrator's one-time link.
func (c *center) first(ctx context.Context) error {
	link, err := os.ReadFile(c.serving.Setup)
	if err != nil {
		return err
	}
	u, err := url.Parse(strings.TrimSpace(string(link)))
	if err != nil {
		return err
	}
	token, ok := strings.CutPrefix(u.Fragment, "token=")
	if !ok {
		return fmt.Errorf("the one-time link has no token: %s", u.Redacted())
	}
	admin, err := c.client()
	if err != nil {
		return err
	}
	defer admin.Close()
	pw, err := c.password("admin")
	if err != nil {
		return err
	}
	if _, err := admin.Setup(ctx, client.Setup{Token: token, Name: "admin", FullName: "Quản trị", Password: pw}); err != nil {
		return err
	}
	return c.keepToken(ctx, admin, "admin", client.RoleAdmin)
}

// hire makes a user of the crew with a token, unless there is one.
func (c *center) hire(ctx context.Context, name string) error {
	roles, ok := crew[name]
	if _, err := os.Stat(c.tokenFile(name)); !ok || err == nil {
		return nil
	}
	admin, err := client.New(client.Config{Server: "https://" + c.serving.Console, RootCA: c.serving.Root, TokenFile: c.tokenFile("admin")})
	if err != nil {
		return err
	}
	defer admin.Close()
	pw, err := c.password(name)
	if err != nil {
		return err
	}
	if _, err := admin.CreateUser(ctx, client.NewUser{Name: name, FullName: name, Roles: roles, Password: pw}); err != nil {
		return err
	}
	own, err := c.signIn(ctx, name)
	if err != nil {
		return err
	}
	defer own.Close()
	return c.keepToken(ctx, own, name, roles...)
}

func (c *center) password(user string) (string, error) {
	pw := rand.Text()
	return pw, os.WriteFile(c.passwordFile(user), []byte(pw+"\n"), 0o600)
}

// signIn signs a user in with the password of dir.
func (c *center) signIn(ctx context.Context, user string) (*client.Client, error) {
	pw, err := os.ReadFile(c.passwordFile(user))
	if err != nil {
		return nil, err
	}
	own, err := c.client()
	if err != nil {
		return nil, err
	}
	if _, err := own.Login(ctx, client.Login{Name: user, Password: strings.TrimSpace(string(pw))}); err != nil {
		return nil, err
	}
	return own, nil
}

func (c *center) keepToken(ctx context.Context, own *client.Client, user string, scopes ...client.Role) error {
	tok, err := own.CreateToken(ctx, client.NewToken{Name: "test", Scopes: scopes, Expires: time.Now().Add(12 * time.Hour).UTC()})
	if err != nil {
		return err
	}
	return os.WriteFile(c.tokenFile(user), []byte(tok.Secret+"\n"), 0o600)
}
