package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/signer"
)

// signerOf finds the signing process that the controller has started.
func (c *center) signerOf(t *testing.T) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // ended meanwhile
		}
		_, rest, ok := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if !ok || len(fields) < 2 || fields[1] != strconv.Itoa(c.cmd.Process.Pid) || !bytes.Contains(args, []byte("\x00signer\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	return 0
}

// The signing process is killed again and again while devices enrol: each gets
// exactly one certificate in the end, nothing is issued that the journal does
// not tell, and the controller holds no issuer's key open.
func TestSignerKilledWhileDevicesEnrol(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := begin(t, dir)
	if err := c.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"lan", "an"} {
		if err := c.hire(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
	city := filepath.Join(dir, "city.yaml")
	if err := os.WriteFile(city, sample.Document(), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must(t, "lan", "inventory", "import", city)
	var b client.EnrolmentBundle
	lan, err := client.New(client.Config{Server: "https://" + c.serving.Console, RootCA: c.serving.Root, TokenFile: c.tokenFile("lan")})
	if err != nil {
		t.Fatal(err)
	}
	defer lan.Close()
	if b, err = lan.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	const devices = 60
	if len(b.Tokens) < devices {
		t.Fatalf("%d tokens", len(b.Tokens))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const kills = 5 // the pause before each start doubles
	killed := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		defer func() { killed <- n }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(300 * time.Millisecond):
			}
			if pid := c.signerOf(t); n < kills && pid > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
				n++
			}
		}
	}()
	var wg sync.WaitGroup
	gate := make(chan struct{}, 6)
	for n, tok := range b.Tokens[:devices] {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			_, err := enrol.Enrol(ctx, enrol.Bundle{
				EnrolURL: b.EnrolURL, Channel: b.Channel, CAURL: b.CAURL, RootPEM: b.RootPEM, Device: tok.Device, Serial: tok.Serial, Token: tok.Token,
			}, filepath.Join(dir, fmt.Sprintf("edge-%d", n)))
			if err != nil {
				t.Errorf("%s: %v", tok.Device, err)
			}
			time.Sleep(100 * time.Millisecond) // so that the kills fall among them
		})
	}
	wg.Wait()
	close(stop)
	n := <-killed
	t.Logf("killed %d times", n)
	if n < 2 {
		t.Errorf("killed %d times; the test shows nothing", n)
	}
	certs, err := lan.Certificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	journal := journaled(t, filepath.Join(dir, "data", "ca", signer.JournalFile))
	seen := map[string]int{}
	for _, x := range certs {
		if _, ok := journal[x.Serial]; !ok {
			t.Errorf("certificate %s of %s is not in the signer's journal", x.Serial, x.Subject)
		}
		if x.Device != "" {
			seen[string(x.Device)]++
		}
	}
	for _, tok := range b.Tokens[:devices] {
		if seen[string(tok.Device)] != 1 {
			t.Errorf("%s has %d certificates", tok.Device, seen[string(tok.Device)])
		}
	}
}

// journaled gives the entries of a journal by serial number.
func journaled(t *testing.T, path string) map[string]signer.Entry {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]signer.Entry{}
	for in := bufio.NewScanner(f); in.Scan(); {
		var e signer.Entry
		if json.Unmarshal(in.Bytes(), &e) == nil && e.Serial != "" {
			out[e.Serial] = e
		}
	}
	return out
}

// While the signer is away nothing is issued and the reason is told; with a
// socket in the configuration the controller starts none by itself.
func TestSignerAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s.sock")
	conf := freePorts(filepath.Join(dir, "data")) + fmt.Sprintf("signer: {socket: %q}\n", socket)
	if err := os.WriteFile(filepath.Join(dir, "wardnet.yaml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "signer", "ca")
	if err := signer.Create(ca, "wardnet.hcmc", time.Now()); err != nil {
		t.Fatal(err)
	}
	s, err := signer.Open(ca, signer.Config{Names: []string{"localhost", "127.0.0.1", "::1"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	log, err := logger(t.Output(), "error")
	if err != nil {
		t.Fatal(err)
	}
	serve := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		l, err := signer.Listen(ctx, socket, nil, log)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- signer.Serve(ctx, l, s, log) }()
		return func() { cancel(); <-done }
	}
	stop := serve()
	c := begin(t, dir)
	if pid := c.signerOf(t); pid != 0 {
		t.Errorf("a signer of its own runs, process %d", pid)
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "ca", "devices.key")); !os.IsNotExist(err) {
		t.Errorf("an issuer's key in the controller's directory: %v", err)
	}
	if err := c.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.hire(t.Context(), "an"); err != nil {
		t.Fatal(err)
	}
	c.must(t, "an", "cert", "rotate", "status")
	stop()
	_, errs, code := program(t, append([]string{"cert", "rotate", "status"}, c.as("an")...)...)
	if code != 1 || !strings.Contains(errs, "signing process does not answer") || !strings.Contains(errs, "hint") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	defer serve()()
	c.must(t, "an", "cert", "rotate", "status")
}
