package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"github.com/wardnet/wardnet/labs/sim"
)

// scaled is a controller process of its own, two engineers who use its CLI, and
// one process of simulated edges.
type scaled struct {
	*siege
	env  *env
	conf string // path

	approver *client.Client
	tokens   map[string]string // file, by person

	edges     *exec.Cmd
	edgesGone chan struct{}
	control   string
}

// simLine is what "lab sim --json" prints.
type simLine struct {
	Event   string  `json:"event"`
	Seconds float64 `json:"seconds"`
	sim.Stats
}

const second = "truong-nhom" // approves what the engineer makes

// startScaled starts a controller with more lines of configuration, makes its
// people, and imports inv by the CLI.
func startScaled(ctx context.Context, e *env, name, more string, inv inventory.Inventory) (*scaled, error) {
	s := &scaled{
		siege: &siege{dir: filepath.Join(e.dir, name), pool: x509.NewCertPool(), ended: make(chan struct{})},
		env:   e, tokens: map[string]string{},
	}
	s.conf, s.control = filepath.Join(s.dir, "wardnet.yaml"), filepath.Join(s.dir, "sim.sock")
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("data: %q\nnames: [127.0.0.1, localhost]\n%slisten:\n", filepath.Join(s.dir, "data"), more)
	for _, l := range listens {
		conf += fmt.Sprintf("  %s: 127.0.0.1:0\n", l)
	}
	if err := os.WriteFile(s.conf, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	if err := s.serve(ctx, filepath.Join(e.root, "bin", "wardnet"), s.conf); err != nil {
		return nil, err
	}
	if err := errors.Join(s.people(ctx), s.importAll(ctx, inv)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

var listens = []string{"console", "pep", "devices", "ca", "enrol", "status", "metrics"}

// people makes an engineer and a second one, each with a token in a file.
func (s *scaled) people(ctx context.Context) error {
	var err error
	if s.root, err = os.ReadFile(s.serving.Root); err != nil {
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
	for name, into := range map[string]**client.Client{engineer: &s.engineer, second: &s.approver} {
		if *into, err = s.tokened(ctx, name); err != nil {
			return fmt.Errorf("user %s: %w", name, err)
		}
	}
	return nil
}

// tokened makes an engineer whose API token is in a file for the CLI.
func (s *scaled) tokened(ctx context.Context, name string) (*client.Client, error) {
	pw, roles := rand.Text(), []client.Role{client.RoleEngineer}
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
	tok, err := c.CreateToken(ctx, client.NewToken{Name: "accept", Scopes: roles, Expires: time.Now().Add(6 * time.Hour).UTC()})
	if err != nil {
		return nil, err
	}
	c.SetToken(tok.Secret)
	s.tokens[name] = filepath.Join(s.dir, "token-"+name)
	return c, os.WriteFile(s.tokens[name], []byte(tok.Secret+"\n"), 0o600)
}

// cli runs a command of the CLI as a person and decodes what it prints.
func (s *scaled) cli(ctx context.Context, person string, into any, args ...string) error {
	r, err := s.env.command(ctx, s.argv(person, args...)...)
	if err != nil {
		return err
	}
	if r.code != 0 {
		return fmt.Errorf("wardnet %s: exit %d: %s", strings.Join(args, " "), r.code, tail(r.errOut, 1000))
	}
	if err := json.Unmarshal([]byte(r.out), into); err != nil {
		return fmt.Errorf("wardnet %s: %w: %s", strings.Join(args, " "), err, tail(r.out, 200))
	}
	return nil
}

func (s *scaled) argv(person string, args ...string) []string {
	return append([]string{
		filepath.Join(s.env.root, "bin", "wardnet"), "--server", "https://" + s.serving.Console, "--ca", s.serving.Root, "--token-file", s.tokens[person],
	}, args...)
}

func (s *scaled) inventoryFile() string { return filepath.Join(s.dir, "inventory.yaml") }

func (s *scaled) importAll(ctx context.Context, inv inventory.Inventory) error {
	var b bytes.Buffer
	if err := inventory.Encode(&b, inv); err != nil {
		return err
	}
	if err := os.WriteFile(s.inventoryFile(), b.Bytes(), 0o600); err != nil {
		return err
	}
	var done client.ImportResult
	return s.cli(ctx, engineer, &done, "inventory", "import", s.inventoryFile(), "--json")
}

// startEdges starts n simulated edges in one process and waits until all have
// been connected; the line says how long that took.
func (s *scaled) startEdges(ctx context.Context, n int, limit time.Duration, more ...string) (simLine, error) {
	log, err := os.OpenFile(filepath.Join(s.dir, "sim.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return simLine{}, err
	}
	argv := s.argv(engineer, append([]string{
		"lab", "sim", "--edges", strconv.Itoa(n), "--inventory", s.inventoryFile(), "--state", filepath.Join(s.dir, "edges"), "--control", s.control, "--json",
	}, more...)...)
	s.edges = exec.Command(argv[0], argv[1:]...)
	s.edges.Stderr = log
	s.edges.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.edges.StdoutPipe()
	if err != nil {
		return simLine{}, err
	}
	if err := s.edges.Start(); err != nil {
		return simLine{}, fmt.Errorf("start the edges: %w", err)
	}
	first := make(chan simLine, 1)
	s.edgesGone = make(chan struct{})
	go func() {
		defer close(s.edgesGone)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var l simLine
			if json.Unmarshal(lines.Bytes(), &l) == nil && l.Event == "connected" {
				first <- l
			}
		}
		_ = s.edges.Wait()
		_ = log.Close()
	}()
	select {
	case l := <-first:
		return l, nil
	case <-s.edgesGone:
		return simLine{}, fmt.Errorf("the edges' process ended, see %s", log.Name())
	case <-time.After(limit):
		st, err := s.stats(ctx)
		return simLine{}, errors.Join(fmt.Errorf("%d of %d edges connected after %s, %d enrolled, %d failed", st.Connected, st.Edges, limit, st.Enrolled, st.Failed), err)
	case <-ctx.Done():
		return simLine{}, ctx.Err()
	}
}

func (s *scaled) stats(ctx context.Context) (sim.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := sim.Send(ctx, s.control, sim.Request{Op: sim.OpStats})
	if err != nil || r.Stats == nil {
		return sim.Stats{}, err
	}
	return *r.Stats, nil
}

// end stops both processes, the edges first.
func (s *scaled) end() {
	if s.edges != nil && s.edges.Process != nil {
		_ = s.edges.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.edgesGone:
		case <-time.After(30 * time.Second):
			_ = s.edges.Process.Kill()
			<-s.edgesGone
		}
	}
	s.close()
}

// restart ends the controller and starts it on the same addresses; the result
// is when the new process was started.
func (s *scaled) restart(ctx context.Context) (time.Time, error) {
	raw, err := os.ReadFile(s.conf)
	if err != nil {
		return time.Time{}, err
	}
	text := string(raw)
	for name, addr := range map[string]string{
		"console": s.serving.Console, "pep": s.serving.PEP, "devices": s.serving.Devices, "ca": s.serving.CA,
		"enrol": s.serving.Enrol, "status": s.serving.Status, "metrics": s.serving.Metrics,
	} {
		text = strings.Replace(text, "  "+name+": 127.0.0.1:0\n", "  "+name+": "+addr+"\n", 1)
	}
	if err := os.WriteFile(s.conf, []byte(text), 0o600); err != nil {
		return time.Time{}, err
	}
	s.close()
	s.ended = make(chan struct{})
	at := time.Now()
	return at, s.serve(ctx, filepath.Join(s.env.root, "bin", "wardnet"), s.conf)
}

// series are all series of /metrics, by name with labels.
func (s *scaled) series(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.serving.Metrics+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(res.Body, 64<<20))
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(text, 64); ok && err == nil && name != "#" {
			out[name] = v
		}
	}
	return out, lines.Err()
}

// used is what a process has taken of the machine so far.
type used struct {
	cpu float64 // seconds, user and system
	rss int64   // bytes, now
}

// ticksPerSecond is the kernel's unit of times in /proc (USER_HZ), 100 on all of
// Linux' common architectures.
const ticksPerSecond = 100

func usedBy(pid int) (used, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return used{}, err
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // from field 3, state
	if len(f) < 22 {
		return used{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	var n [3]float64
	for i, at := range []int{11, 12, 21} { // utime, stime, rss
		if n[i], err = strconv.ParseFloat(f[at], 64); err != nil {
			return used{}, err
		}
	}
	return used{cpu: (n[0] + n[1]) / ticksPerSecond, rss: int64(n[2]) * int64(os.Getpagesize())}, nil
}

// peakOf is the most memory that a process ever had resident, in MB.
func peakOf(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if text, is := strings.CutPrefix(line, "VmHWM:"); is {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 64)
			return kib * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmHWM", pid)
}
