package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

const engineerName = "ky-su"

// startController starts "wardnet serve" on free ports of the loopback.
func (s *story) startController(ctx context.Context) error {
	conf := fmt.Sprintf("data: %q\nnames: [127.0.0.1, localhost]\nlisten:\n", s.path("data"))
	for _, l := range []string{"console", "pep", "devices", "ca", "enrol", "status", "metrics"} {
		conf += fmt.Sprintf("  %s: 127.0.0.1:0\n", l)
	}
	if err := os.WriteFile(s.path("wardnet.yaml"), []byte(conf), 0o600); err != nil {
		return err
	}
	return s.startServe(ctx)
}

func (s *story) startServe(ctx context.Context) error {
	p, err := start(s.cfg.Dir, "serve", s.cfg.Wardnet, "serve", "--config", s.path("wardnet.yaml"), "--json")
	if err != nil {
		return err
	}
	s.serve = p
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return p.first(ctx, &s.serving)
}

// killServe cuts the controller's power and starts it again on the same ports.
func (s *story) killServe(ctx context.Context) error {
	s.measure()
	conf, err := os.ReadFile(s.path("wardnet.yaml"))
	if err != nil {
		return err
	}
	text := string(conf)
	for name, addr := range map[string]string{
		"console": s.serving.Console, "pep": s.serving.PEP, "devices": s.serving.Devices, "ca": s.serving.CA,
		"enrol": s.serving.Enrol, "status": s.serving.Status, "metrics": s.serving.Metrics,
	} {
		text = strings.Replace(text, "  "+name+": 127.0.0.1:0\n", "  "+name+": "+addr+"\n", 1)
	}
	if err := os.WriteFile(s.path("wardnet.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	s.serve.kill()
	s.say("  the controller was killed (SIGKILL) and starts again")
	return s.startServe(ctx)
}

func (s *story) client() (*client.Client, error) {
	return client.New(client.Config{Server: "https://" + s.serving.Console, RootCA: s.serving.Root})
}

func (s *story) passwordFile(user string) string { return s.path("password-" + user) }

// makePeople redeems the first administrator's one-time link, makes a user for
// each part in the story, and a token for each.
func (s *story) makePeople(ctx context.Context) error {
	token, err := client.SetupToken(s.serving.Setup)
	if err != nil {
		return err
	}
	if s.admin, err = s.client(); err != nil {
		return err
	}
	pw, err := s.password("quan-tri")
	if err != nil {
		return err
	}
	if _, err := s.admin.Setup(ctx, client.Setup{Token: token, Name: "quan-tri", FullName: "Quản trị hệ thống", Password: pw}); err != nil {
		return err
	}
	for _, u := range []struct {
		name, full string
		roles      []client.Role
		into       **client.Client
	}{
		{engineerName, "Kỹ sư mạng", []client.Role{client.RoleEngineer, client.RoleNOC, client.RoleAuditor}, &s.engineer},
		{"truong-nhom", "Trưởng nhóm mạng", []client.Role{client.RoleEngineer}, &s.approver},
		{"an-toan", "Chuyên viên an toàn thông tin", []client.Role{client.RoleSecurity}, &s.security},
		{"truc-noc", "Trực NOC", []client.Role{client.RoleNOC}, &s.noc},
	} {
		if *u.into, err = s.person(ctx, u.name, u.full, u.roles); err != nil {
			return fmt.Errorf("user %s: %w", u.name, err)
		}
	}
	return nil
}

func (s *story) person(ctx context.Context, name, full string, roles []client.Role) (*client.Client, error) {
	pw, err := s.password(name)
	if err != nil {
		return nil, err
	}
	if _, err := s.admin.CreateUser(ctx, client.NewUser{Name: name, FullName: full, Roles: roles, Password: pw}); err != nil {
		return nil, err
	}
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	if _, err := c.Login(ctx, client.Login{Name: name, Password: pw}); err != nil {
		return nil, err
	}
	tok, err := c.CreateToken(ctx, client.NewToken{Name: "demo", Scopes: roles, Expires: time.Now().Add(12 * time.Hour).UTC()})
	if err != nil {
		return nil, err
	}
	c.SetToken(tok.Secret)
	return c, nil
}

// password makes one and keeps it in a file for its owner.
func (s *story) password(user string) (string, error) {
	b := make([]byte, 18)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	pw := base64.RawURLEncoding.EncodeToString(b)
	return pw, os.WriteFile(s.passwordFile(user), []byte(pw+"\n"), 0o600)
}

// importCity imports the inventory and remembers which devices the story has.
func (s *story) importCity(ctx context.Context) error {
	document := s.cfg.Document
	if small := trim(s.cfg.City, s.cfg.Edges); len(small.Sites) < len(s.cfg.City.Sites) {
		var b bytes.Buffer
		if err := inventory.Encode(&b, small); err != nil {
			return err
		}
		s.cfg.City, document = small, b.Bytes()
	}
	start := time.Now()
	if _, err := s.engineer.ImportInventory(ctx, document, 0); err != nil {
		return err
	}
	s.report.Seconds.Import = time.Since(start).Seconds()
	sites, err := s.engineer.Sites(ctx)
	if err != nil {
		return err
	}
	s.report.Sites = len(sites)
	s.report.expect(len(sites) == len(s.cfg.City.Sites), "%d sites imported, want %d", len(sites), len(s.cfg.City.Sites))
	return nil
}
