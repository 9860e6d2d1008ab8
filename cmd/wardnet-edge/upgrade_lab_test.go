//go:build lab

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/channel"
	"github.com/wardnet/wardnet/edge/gnmi"
	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/edge/upgrade"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/sim"
	"github.com/wardnet/wardnet/pki"
)

// plant is a controller's half and one agent, started as a service would.
type plant struct {
	*testing.T
	pki     *pki.PKI
	channel *channel.Server
	state   string
	edges   string // simulator file
	base    string // the binary that came with the box
	agent   *exec.Cmd
	log     bytes.Buffer
}

const device inventory.DeviceID = "e-1"

func newPlant(t *testing.T, base string) *plant {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	p := &plant{T: t, state: filepath.Join(dir, "edge"), edges: filepath.Join(dir, "edges.json"), base: base}
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(dir, "wardnet.db"))
	p.must(err)
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		p.must(err)
		return ln
	}
	enrolLn, channelLn, caLn := listen(), listen(), listen()
	p.pki, err = pki.Open(t.Context(), pki.Deps{
		Store: store.NewPKI(db, "hcmc"), Dir: dir, Log: log, Audit: func(context.Context, pki.Event) error { return nil },
	}, pki.Config{EnrolURL: "https://" + enrolLn.Addr().String(), Channel: channelLn.Addr().String(), CAURL: "https://" + caLn.Addr().String()})
	p.must(err)
	p.channel, err = channel.NewServer(channel.Deps{TLS: p.pki.HubTLS(pki.ChannelListener), Identify: p.pki.IdentifyDevice, Log: log}, channel.Config{})
	p.must(err)
	enrolment := &http.Server{Handler: p.pki.EnrolHandler()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- p.channel.Serve(ctx, channelLn) }()
	go func() { done <- enrolment.Serve(tls.NewListener(enrolLn, p.pki.HubTLS(pki.EnrolListener))) }()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		cancel()
		enrolment.Close()
		<-done
		<-done
		caLn.Close()
		db.Close()
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	token, _, err := p.pki.CreateToken(t.Context(), device, "sn-1", "test")
	p.must(err)
	b := p.pki.Bundle(device, "sn-1", token)
	p.must(sim.File{Edges: []sim.Edge{{
		Device: device, Serial: "sn-1", Site: "s-1", Role: inventory.RoleEdge, Bundle: &b,
		Circuits: []sim.Circuit{{ID: "c-1", Kind: inventory.FTTH, Carrier: "vnpt"}},
	}}}.Save(p.edges))
	return p
}

func (p *plant) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// start is what a supervisor does.
func (p *plant) start() {
	p.Helper()
	p.agent = exec.Command(p.base, "run", "--host", "simulated", "--edges", p.edges, "--state", p.state)
	p.agent.Stderr = &p.log
	p.must(p.agent.Start())
}

func (p *plant) stop(sig syscall.Signal) {
	if p.agent != nil {
		_ = p.agent.Process.Signal(sig)
		_ = p.agent.Wait()
		p.agent = nil
	}
}

// until asks the agent until what it says is as wanted.
func (p *plant) until(what string, within time.Duration, good func(*gnoi.VerifyResponse) bool) *gnoi.VerifyResponse {
	p.Helper()
	var last *gnoi.VerifyResponse
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(p.Context(), 2*time.Second)
		var v *gnoi.VerifyResponse
		if v, err = p.os().Verify(ctx, &gnoi.VerifyRequest{}); err == nil {
			last = v
		}
		cancel()
		if err == nil && good(v) {
			return v
		}
	}
	p.Fatalf("%s: not within %s: the agent says %v, %v", what, within, last, err)
	return nil
}

// os is a client of the agent's present session.
func (p *plant) os() gnoi.OSClient {
	p.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := p.channel.Conn(device)
		if err == nil {
			return gnoi.NewOSClient(conn)
		}
		if time.Now().After(end) {
			p.Fatalf("the agent does not connect: %v", err)
		}
	}
}

// release signs body.
func (p *plant) release(version string, body []byte) *gnoi.Release {
	p.Helper()
	sum := sha256.Sum256(body)
	key := p.pki.Keys()[pki.AgentBinaryKey]
	r, err := release.Release{Version: version, GOOS: runtime.GOOS, GOARCH: runtime.GOARCH, Size: int64(len(body)), SHA256: sum[:]}.Sign(key.Signer, key.ID)
	p.must(err)
	return &gnoi.Release{Version: r.Version, Goos: r.GOOS, Goarch: r.GOARCH, SizeBytes: uint64(r.Size), Sha256: r.SHA256, KeyId: r.KeyID, Signature: r.Signature}
}

// install sends body until limit bytes were sent (0: all) and gives where it
// began.
func (p *plant) install(version string, body []byte, limit int) (from uint64) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	stream, err := p.os().Install(ctx)
	p.must(err)
	p.must(stream.Send(&gnoi.InstallRequest{Transfer: p.release(version, body)}))
	first, err := stream.Recv()
	p.must(err)
	from = first.GetOffset()
	for at := from; at < uint64(len(body)) && !first.GetInstalled(); {
		piece := body[at:min(at+256<<10, uint64(len(body)))]
		p.must(stream.Send(&gnoi.InstallRequest{Offset: at, Content: piece}))
		if at += uint64(len(piece)); limit > 0 && at >= uint64(limit) {
			for resp := first; resp.GetOffset() == from; { // a safe point lies in what was sent
				resp, err = stream.Recv()
				p.must(err)
			}
			return from
		}
	}
	for {
		resp, err := stream.Recv()
		p.must(err)
		if resp.GetInstalled() {
			return from
		}
	}
}

func (p *plant) activate(version, commit string, revert time.Duration) {
	p.Helper()
	_, err := p.os().Activate(p.Context(), &gnoi.ActivateRequest{Version: version, CommitId: commit, RevertMs: uint32(revert.Milliseconds())})
	p.must(err)
}

// confirm asks until the version on trial holds.
func (p *plant) confirm(commit string) {
	p.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if _, err = p.os().Confirm(p.Context(), &gnoi.ConfirmRequest{CommitId: commit}); err == nil {
			return
		}
	}
	p.Fatal(err)
}

// exe is the binary that pid runs.
func exe(pid int) string {
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return path
}

// childOf is the one child of pid; 0: none.
func childOf(pid int) (child int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)); len(list) > 0 {
		for _, f := range list {
			more, _ := os.ReadFile(f)
			text = append(text, more...)
		}
	}
	fmt.Sscan(string(text), &child) //nolint:errcheck // 0
	return child
}

// buildAgent builds the agent with a version.
func buildAgent(t *testing.T, version string) (path string, body []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "wardnet-edge-"+version)
	cmd := exec.Command("go", "build", "-ldflags", "-s -w -X main.version="+version, "-o", path, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, body
}

// TestReplaceTheAgent is an agent's life over several versions, good and bad.
func TestReplaceTheAgent(t *testing.T) {
	oldPath, oldBody := buildAgent(t, "1.0.0")
	_, newBody := buildAgent(t, "2.0.0")
	p := newPlant(t, oldPath)
	p.start()
	pid := p.agent.Process.Pid
	p.until("first start", 30*time.Second, func(v *gnoi.VerifyResponse) bool { return v.GetVersion() == "1.0.0" })
	conn, err := p.channel.Conn(device)
	p.must(err)
	driver := gnmi.New(conn, gnmi.Config{})
	key := p.pki.Keys()[pki.RevisionKey]
	config := func(revision uint64) edge.Signed {
		s, err := edge.SignConfig(edge.Config{Device: device, Site: "s-1", Role: inventory.RoleEdge, Circuits: []edge.Circuit{{Name: "c-1", Kind: inventory.FTTH, MTU: 1500}}}, revision, key.Signer, key.ID)
		p.must(err)
		return s
	}
	p.must(driver.Apply(t.Context(), "r1", config(1), time.Minute))
	p.must(driver.Confirm(t.Context(), "r1"))

	t.Log("install, cut and taken up again; then kept")
	p.install("2.0.0", newBody, 5<<20)
	if from := p.install("2.0.0", newBody, 0); from < 2<<20 || from > 6<<20 {
		t.Errorf("the second transfer began at byte %d", from)
	}
	p.activate("2.0.0", "u1", time.Minute)
	p.until("trial", 20*time.Second, func(v *gnoi.VerifyResponse) bool { return v.GetVersion() == "2.0.0" && v.GetPending() == "u1" })
	if c := childOf(pid); c == 0 || exe(c) != filepath.Join(p.state, "agent", "a", "wardnet-edge") || exe(pid) != oldPath {
		t.Errorf("on trial: pid %d runs %s, its child %d runs %s", pid, exe(pid), c, exe(c))
	}
	conn, err = p.channel.Conn(device)
	p.must(err)
	if err := gnmi.New(conn, gnmi.Config{}).Apply(t.Context(), "r2", config(2), time.Minute); !errors.Is(err, edge.ErrUnreachable) || !strings.Contains(err.Error(), "on trial") {
		t.Errorf("a configuration during the trial: %v", err)
	}
	p.confirm("u1")
	p.until("kept", 20*time.Second, func(v *gnoi.VerifyResponse) bool {
		return v.GetVersion() == "2.0.0" && v.GetPending() == "" && childOf(pid) == 0
	})
	if got := exe(pid); got != filepath.Join(p.state, "agent", "a", "wardnet-edge") {
		t.Errorf("pid %d runs %s", pid, got)
	}
	conn, err = p.channel.Conn(device)
	p.must(err)
	if st, err := gnmi.New(conn, gnmi.Config{}).State(t.Context()); err != nil || st.Version != "2.0.0" || st.Protocol != edge.Protocol || st.Revision != 1 {
		t.Errorf("state %+v, %v", st, err)
	}

	bad := func(version, commit string, body []byte, why string, within time.Duration) {
		t.Helper()
		t.Log(version + ": " + why)
		p.install(version, body, 0)
		p.activate(version, commit, upgrade.MinRevert)
		v := p.until(version, within, func(v *gnoi.VerifyResponse) bool { return v.GetFailedCommit() == commit })
		if v.GetVersion() != "2.0.0" || v.GetFailedVersion() != version || !strings.Contains(v.GetFailure(), why) || v.GetPending() != "" {
			t.Errorf("after %s: %v; want failure %q", version, v, why)
		}
		if exe(pid) != filepath.Join(p.state, "agent", "a", "wardnet-edge") || childOf(pid) != 0 {
			t.Errorf("after %s pid %d runs %s, with child %d", version, pid, exe(pid), childOf(pid))
		}
	}
	bad("1.0.0", "u2", oldBody, "no Confirm arrived within 10s", 40*time.Second)
	bad("3.0.0-crash", "u3", []byte("#!/bin/sh\nexit 3\n"), "it ended (exit status 3) before it was confirmed", 30*time.Second)
	bad("3.0.0-hang", "u4", []byte("#!/bin/sh\nexec sleep 300\n"), "it hung", 45*time.Second)
	bad("3.0.0-odd", "u5", []byte("not a program"), "it was not started", 30*time.Second)
	bad("4.0.0", "u6", append(bytes.Clone(oldBody), 0), "says it is version 1.0.0 and was released as 4.0.0", 30*time.Second)

	for _, cut := range []struct {
		signal      syscall.Signal
		commit, why string
	}{
		{syscall.SIGKILL, "u7", "interrupted: the box or its agent ended"},
		{syscall.SIGTERM, "u8", "interrupted: the agent was told to end"},
	} {
		t.Log("the guard gets", cut.signal, "during a trial")
		p.install("1.0.0", oldBody, 0)
		p.activate("1.0.0", cut.commit, time.Minute)
		p.until("trial", 20*time.Second, func(v *gnoi.VerifyResponse) bool {
			return v.GetVersion() == "1.0.0" && v.GetPending() == cut.commit
		})
		child := childOf(pid)
		if child == 0 {
			t.Fatalf("no version on trial under pid %d", pid)
		}
		p.stop(cut.signal)
		for end := time.Now().Add(5 * time.Second); exe(child) != ""; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("child %d outlives its guard", child)
			}
		}
		p.start()
		pid = p.agent.Process.Pid
		v := p.until("after it", 20*time.Second, func(v *gnoi.VerifyResponse) bool { return v.GetFailedCommit() == cut.commit })
		if v.GetVersion() != "2.0.0" || !strings.Contains(v.GetFailure(), cut.why) || exe(pid) != filepath.Join(p.state, "agent", "a", "wardnet-edge") {
			t.Errorf("after %s: %v, pid %d runs %s", cut.signal, v, pid, exe(pid))
		}
	}
}
