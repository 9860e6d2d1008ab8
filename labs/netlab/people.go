package netlab

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/wardnet/wardnet/console/client"
)

const (
	devicePort  = 9443
	tokenLife   = 30 * 24 * time.Hour // of the lab's people
	serveStarts = time.Minute
)

// manySites is from where on a lab is a large one.
const manySites = 40

// controllerText is the controller's configuration: people and programs of this
// machine reach it by its unix socket, devices by the address that every
// carrier leads to.
func (l *Lab) controllerText() string {
	at := l.Topology.Controller
	return fmt.Sprintf(`data: %q
names: ["%s", 127.0.0.1, localhost]
listen:
  console: 127.0.0.1:8443
  pep: 127.0.0.1:8444
  devices: "%[2]s:%d"
  ca: "%[2]s:9444"
  enrol: "%[2]s:9445"
  status: "%[2]s:9446"
  metrics: 127.0.0.1:9464
agents:
  rate: 50000000
controller: # all boxes share one machine's processors
  parallel: %[4]d
  wave: 20m
%[5]s`, l.Data(), at, devicePort, l.parallel(), l.slow())
}

// slow gives one push of a large lab more time: a hundred running boxes answer
// late, and a push that is taken back for that only costs another.
func (l *Lab) slow() string {
	if len(l.Topology.Sites) > manySites {
		return "  pass: 75s\n  revert: 2m\n"
	}
	return ""
}

// parallel is how many boxes may be between push and confirm: half as many in a
// large lab, whose running boxes leave the machine little time.
func (l *Lab) parallel() int {
	if len(l.Topology.Sites) > manySites {
		return runtime.NumCPU()
	}
	return 2 * runtime.NumCPU()
}

// StartController starts "wardnet serve" in its namespace and waits until it
// listens. It is nothing to start one that runs.
func (l *Lab) StartController(ctx context.Context) (client.Serving, error) {
	var s client.Serving
	ctx, cancel := context.WithTimeoutCause(ctx, serveStarts, fmt.Errorf("took over %s", serveStarts))
	defer cancel()
	if l.procs.pid("serve") == 0 {
		conf := l.path("wardnet.yaml")
		if err := os.WriteFile(conf, []byte(l.controllerText()), 0o600); err != nil {
			return s, fmt.Errorf("configuration of the controller: %w", err)
		}
		if err := l.procs.start(Name(l.Topology.Prefix, "ctl"), "serve", l.state.Wardnet, "serve", "--config", conf, "--json"); err != nil {
			return s, err
		}
	}
	err := l.procs.said(ctx, "serve", &s)
	return s, err
}

// StopController ends the controller; kill: without a warning.
func (l *Lab) StopController(kill bool) error {
	if kill {
		return l.procs.kill("serve")
	}
	return l.procs.stop("serve")
}

// makePeople redeems the first administrator's link and gives the lab's people
// their accounts and tokens, each in a file for its owner.
func (l *Lab) makePeople(ctx context.Context, setup string) error {
	token, err := client.SetupToken(setup)
	if err != nil {
		return err
	}
	anon, err := client.New(client.Config{Server: "unix://" + filepath.Join(l.Data(), "wardnet.sock")})
	if err != nil {
		return err
	}
	defer anon.Close()
	pw, err := l.password(admin)
	if err != nil {
		return err
	}
	if _, err := anon.Setup(ctx, client.Setup{Token: token, Name: string(admin), FullName: "Quản trị hệ thống", Password: pw}); err != nil {
		return fmt.Errorf("set up the first administrator: %w", err)
	}
	for p, r := range roles {
		if err := l.person(ctx, anon, p, r); err != nil {
			return fmt.Errorf("user %s: %w", p, err)
		}
	}
	return nil
}

func (l *Lab) person(ctx context.Context, by *client.Client, p Person, r []client.Role) error {
	pw, err := l.password(p)
	if err != nil {
		return err
	}
	if _, err := by.CreateUser(ctx, client.NewUser{Name: string(p), FullName: string(p), Roles: r, Password: pw}); err != nil {
		return err
	}
	own, err := client.New(client.Config{Server: "unix://" + filepath.Join(l.Data(), "wardnet.sock")})
	if err != nil {
		return err
	}
	defer own.Close()
	if _, err := own.Login(ctx, client.Login{Name: string(p), Password: pw}); err != nil {
		return err
	}
	tok, err := own.CreateToken(ctx, client.NewToken{Name: "lab", Scopes: r, Expires: time.Now().Add(tokenLife).UTC()})
	if err != nil {
		return err
	}
	return os.WriteFile(l.path("people", string(p)+".token"), []byte(tok.Secret+"\n"), 0o600)
}

// password makes one and keeps it in a file for its owner.
func (l *Lab) password(p Person) (string, error) {
	b := make([]byte, 18)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	pw := base64.RawURLEncoding.EncodeToString(b)
	return pw, os.WriteFile(l.path("people", string(p)+".password"), []byte(pw+"\n"), 0o600)
}
