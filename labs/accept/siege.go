package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// siege is a controller of its own with the city's inventory, its people, and
// the attacker's place outside. Every attack comes from a loopback address of
// its own, so that one attack's rate limit does not hide what the next meets.
type siege struct {
	dir     string
	serving client.Serving
	cmd     *exec.Cmd
	ended   chan struct{}
	root    []byte // PEM
	pool    *x509.CertPool
	domain  string
	devices []inventory.Device // in service, no hubs

	admin, engineer, security, auditor *client.Client
	auditorToken, engineerPassword     string

	host   int // last loopback address used
	made   []string
	failed []string
	// audits and counts are how many attacks had to leave an entry in the
	// audit log and a counter.
	audits, counts int
}

const engineer = "ky-su"

func newSiege(ctx context.Context, e *env) (*siege, error) { return newSiegeWith(ctx, e, "") }

// newSiegeWith is newSiege with more lines in the configuration.
func newSiegeWith(ctx context.Context, e *env, more string) (*siege, error) {
	s := &siege{dir: filepath.Join(e.dir, "refusals"), pool: x509.NewCertPool(), host: 1, ended: make(chan struct{})}
	if err := os.RemoveAll(s.dir); err != nil { // of a check before
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("data: %q\nnames: [127.0.0.1, localhost]\nlisten:\n", filepath.Join(s.dir, "data"))
	for _, l := range []string{"console", "pep", "devices", "ca", "enrol", "status", "metrics"} {
		conf += fmt.Sprintf("  %s: 127.0.0.1:0\n", l)
	}
	file := filepath.Join(s.dir, "wardnet.yaml")
	if err := os.WriteFile(file, []byte(conf+more), 0o600); err != nil {
		return nil, err
	}
	if err := s.serve(ctx, filepath.Join(e.root, "bin", "wardnet"), file); err != nil {
		return nil, err
	}
	if err := s.settle(ctx, e); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// serve starts the controller and waits for its line.
func (s *siege) serve(ctx context.Context, program, conf string) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s.cmd = exec.Command(program, "serve", "--config", conf, "--json")
	s.cmd.Stderr = log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	pipe, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start the controller: %w", err)
	}
	first := make(chan error, 1)
	go func() {
		out := bufio.NewReader(pipe)
		line, err := out.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &s.serving)
		}
		first <- err
		_, _ = io.Copy(io.Discard, out)
		_ = s.cmd.Wait()
		_ = log.Close()
		close(s.ended)
	}()
	select {
	case err = <-first:
	case <-time.After(time.Minute):
		err = errors.New("no line within a minute")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		s.close()
		return fmt.Errorf("the controller said nothing usable, see %s: %w", log.Name(), err)
	}
	return nil
}

func (s *siege) close() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// settle makes the people and imports the city.
func (s *siege) settle(ctx context.Context, e *env) error {
	var err error
	if s.root, err = os.ReadFile(s.serving.Root); err != nil {
		return err
	}
	s.pool.AppendCertsFromPEM(s.root)
	if s.domain, err = enrol.TrustDomain(s.root); err != nil {
		return err
	}
	token, err := client.SetupToken(s.serving.Setup)
	if err != nil {
		return err
	}
	if s.admin, err = s.client(); err != nil {
		return err
	}
	if _, err := s.admin.Setup(ctx, client.Setup{Token: token, Name: "quan-tri", FullName: "Quản trị hệ thống", Password: rand.Text()}); err != nil {
		return err
	}
	for _, p := range []struct {
		name string
		role client.Role
		into **client.Client
	}{
		{engineer, client.RoleEngineer, &s.engineer},
		{"an-toan", client.RoleSecurity, &s.security},
		{"kiem-toan", client.RoleAuditor, &s.auditor},
	} {
		if *p.into, err = s.person(ctx, p.name, p.role); err != nil {
			return fmt.Errorf("user %s: %w", p.name, err)
		}
	}
	r, err := e.command(ctx, "bin/wardnet", "inventory", "export", "--sample")
	if err != nil || r.code != 0 {
		return fmt.Errorf("export the sample: exit %d, %w", r.code, err)
	}
	if _, err := s.engineer.ImportInventory(ctx, []byte(r.out), 0); err != nil {
		return err
	}
	all, err := s.engineer.Devices(ctx)
	for _, d := range all {
		if d.Intended == inventory.InService && d.Role != inventory.RoleHub {
			s.devices = append(s.devices, d.Device)
		}
	}
	return err
}

func (s *siege) client() (*client.Client, error) {
	return client.New(client.Config{Server: "https://" + s.serving.Console, RootPEM: s.root})
}

func (s *siege) person(ctx context.Context, name string, role client.Role) (*client.Client, error) {
	pw := rand.Text()
	roles := []client.Role{role}
	if _, err := s.admin.CreateUser(ctx, client.NewUser{Name: name, FullName: name, Roles: roles, Password: pw}); err != nil {
		return nil, err
	}
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	if _, err := c.Login(ctx, client.Login{Name: name, Password: pw}); err != nil {
		return nil, err
	}
	tok, err := c.CreateToken(ctx, client.NewToken{Name: "accept", Scopes: roles, Expires: time.Now().Add(time.Hour).UTC()})
	if err != nil {
		return nil, err
	}
	c.SetToken(tok.Secret)
	switch role {
	case client.RoleEngineer:
		s.engineerPassword = pw
	case client.RoleAuditor:
		s.auditorToken = tok.Secret
	}
	return c, nil
}

// place is where one attack comes from.
type place struct {
	net.Dialer
	ip string
}

// elsewhere is an address that was not used before.
func (s *siege) elsewhere() place {
	s.host++
	ip := net.IPv4(127, 0, byte(s.host>>8), byte(s.host))
	return place{net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}, Timeout: 5 * time.Second}, ip.String()}
}

// trace is what a refused attack must leave: Reason in an audit entry, refused,
// from the attacker's address; and Counter, one series of /metrics, raised.
type trace struct{ Reason, Counter string }

// attack makes one attempt. try returns nil when it was refused as it ought to
// be, else what happened instead.
func (s *siege) attack(ctx context.Context, name string, want trace, try func(ctx context.Context, from place) error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	s.made = append(s.made, name)
	if want.Reason != "" {
		s.audits++
	}
	if want.Counter != "" {
		s.counts++
	}
	from := s.elsewhere()
	before, err := s.counter(ctx, want.Counter)
	if err == nil {
		err = try(ctx, from)
	}
	if err == nil && want.Counter != "" {
		err = within(ctx, 3*time.Second, func() error {
			after, err := s.counter(ctx, want.Counter)
			if err == nil && after <= before {
				err = fmt.Errorf("%s did not rise above %v", want.Counter, before)
			}
			return err
		})
	}
	if err == nil && want.Reason != "" {
		err = within(ctx, 3*time.Second, func() error { return s.audited(ctx, from, want.Reason) })
	}
	if err != nil {
		s.failed = append(s.failed, name+": "+err.Error())
	}
}

func within(ctx context.Context, limit time.Duration, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// audited looks for a refusal of the reason from an address.
func (s *siege) audited(ctx context.Context, from place, reason string) error {
	all, err := s.auditor.Audit(ctx, client.AuditFilter{Limit: 100})
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Outcome == "refused" && strings.Contains(a.Reason, reason) && strings.HasPrefix(a.From, from.ip+":") {
			return nil
		}
	}
	return fmt.Errorf("no audit entry says %q from %s", reason, from.ip)
}

// counter reads one series of the metrics listener; "" is 0.
func (s *siege) counter(ctx context.Context, series string) (float64, error) {
	if series == "" {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.serving.Metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			return strconv.ParseFloat(v, 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no series %s", series)
}
