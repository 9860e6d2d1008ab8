//go:build lab

package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
)

// role names what this binary does when a test runs it inside a namespace.
const role = "WARDNET_PROBE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "probe":
		exit(probing())
	case "serve":
		exit(serving())
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Two tunnels between two namespaces, the second of which loses.
var (
	targets = []Target{
		{Tunnel: "good", Dev: "w4a0", Local: netip.MustParseAddr("172.16.0.0"), Remote: netip.MustParseAddr("172.16.0.1")},
		{Tunnel: "lossy", Dev: "w4a1", Local: netip.MustParseAddr("172.16.0.2"), Remote: netip.MustParseAddr("172.16.0.3")},
	}
	asked = edge.Contract{
		DNS:      []netip.Addr{netip.MustParseAddr("172.16.0.1")},
		Services: []netip.AddrPort{netip.MustParseAddrPort("172.16.0.1:4443"), netip.MustParseAddrPort("172.16.0.1:4444")},
	}
)

// report is what the probing process says.
type report struct {
	Window  map[string]Sample
	Quality map[string]agent.Probe
	Holds   []string
}

// probing probes until its input ends and reports five times a second.
func probing() error {
	p, err := Open(Config{Interval: 10 * time.Millisecond, Window: 4 * time.Second, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	p.Update(targets, asked, netip.MustParseAddr("172.16.0.0"))
	var all []string
	for _, t := range targets {
		all = append(all, t.Tunnel)
	}
	p.Ride(all) // as the steering loop does
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		out := json.NewEncoder(os.Stdout)
		for range tick.C {
			r := report{map[string]Sample{}, map[string]agent.Probe{}, p.Holds()}
			for _, t := range targets {
				r.Window[t.Tunnel], r.Quality[t.Tunnel] = p.Window(t.Tunnel), p.Quality(t.Tunnel)
			}
			_ = out.Encode(r)
		}
	}()
	return p.Run(ctx)
}

// serving answers DNS with a refusal, and TCP on one of the two ports.
func serving() error {
	ln, err := net.Listen("tcp", "172.16.0.1:4443")
	if err != nil {
		return err
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	srv := &dns.Server{Addr: "172.16.0.1:53", Net: "udp", Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		_ = w.WriteMsg(m.SetRcode(q, dns.RcodeRefused))
	})}
	defer srv.Shutdown()
	done := make(chan error, 1)
	go func() { done <- srv.ListenAndServe() }()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		done <- nil
	}()
	return <-done
}

func command(t *testing.T, stdin string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Stdin = strings.NewReader(stdin)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// namespaces are two, joined by two cables.
func namespaces(t *testing.T) (a, b string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT RUN: this test makes network namespaces, which needs root")
	}
	a, b = fmt.Sprintf("w4-%d-a", os.Getpid()), fmt.Sprintf("w4-%d-b", os.Getpid())
	for _, ns := range []string{a, b} {
		command(t, "", "ip", "netns", "add", ns)
		t.Cleanup(func() { command(t, "", "ip", "netns", "del", ns) })
	}
	for i, tgt := range targets {
		far := fmt.Sprintf("w4b%d", i)
		command(t, "", "ip", "link", "add", tgt.Dev, "netns", a, "type", "veth", "peer", "name", far, "netns", b)
		command(t, "", "ip", "-n", a, "addr", "add", tgt.Local.String()+"/31", "dev", tgt.Dev)
		command(t, "", "ip", "-n", b, "addr", "add", tgt.Remote.String()+"/31", "dev", far)
		command(t, "", "ip", "-n", a, "link", "set", tgt.Dev, "up")
		command(t, "", "ip", "-n", b, "link", "set", far, "up")
	}
	return a, b
}

// inside runs this binary in a namespace until the test ends or stop is called.
func inside(t *testing.T, ns, as string) (out io.Reader, stop func()) {
	t.Helper()
	c := exec.Command("ip", "netns", "exec", ns, os.Args[0])
	c.Env = append(os.Environ(), role+"="+as)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err = c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	over := false
	stop = func() {
		if over {
			return
		}
		over = true
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := c.Wait(); err != nil {
			t.Errorf("%s in %s: %v", as, ns, err)
		}
	}
	t.Cleanup(stop)
	return out, stop
}

// lose makes the far end drop this share, in percent, of what arrives by the
// second cable; of 100 one packet in a thousand passes, which nft insists on.
func lose(t *testing.T, ns string, percent int) {
	t.Helper()
	command(t, fmt.Sprintf(`table ip w4
delete table ip w4
table ip w4 {
	chain in {
		type filter hook input priority 0;
		iifname "w4b1" numgen random mod 1000 < %d drop
	}
}
`, min(10*percent, 999)), "ip", "netns", "exec", ns, "nft", "-f", "-")
}

// strays makes a namespace count what ICMP comes with DSCP CS6 and without, and
// returns the two figures when called.
func strays(t *testing.T, ns string) func() (control, others int) {
	t.Helper()
	command(t, `table ip w4class {
	chain in {
		type filter hook input priority 1;
		icmp type { echo-request, echo-reply } ip dscp cs6 counter
		icmp type { echo-request, echo-reply } ip dscp != cs6 counter
	}
}
`, "ip", "netns", "exec", ns, "nft", "-f", "-")
	return func() (control, others int) {
		t.Helper()
		out, err := exec.Command("ip", "netns", "exec", ns, "nft", "list", "chain", "ip", "w4class", "in").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		counts := regexp.MustCompile(`packets (\d+)`).FindAllStringSubmatch(string(out), -1)
		if len(counts) != 2 {
			t.Fatalf("counters: %s", out)
		}
		control, err1 := strconv.Atoi(counts[0][1])
		others, err2 := strconv.Atoi(counts[1][1])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return control, others
	}
}

// TestMeasures measures loss that a packet filter makes, total loss and its
// end, each on its own tunnel only, and asks the contract's servers.
func TestMeasures(t *testing.T) {
	a, b := namespaces(t)
	_, shut := inside(t, b, "serve")
	lose(t, b, 20)
	questions, answers := strays(t, b), strays(t, a)
	out, _ := inside(t, a, "probe")
	lines := bufio.NewScanner(out)
	// until reads reports until ok, and gives the last one.
	until := func(what string, within time.Duration, ok func(report) bool) report {
		t.Helper()
		start := time.Now()
		for lines.Scan() {
			var r report
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			if ok(r) {
				t.Logf("%s after %s: %+v, holds %v", what, time.Since(start).Round(time.Millisecond), r.Window, r.Holds)
				return r
			}
			if time.Since(start) > within {
				t.Fatalf("%s not within %s: %+v", what, within, r)
			}
		}
		t.Fatalf("%s: the prober ended: %v", what, lines.Err())
		return report{}
	}
	r := until("a full window", 20*time.Second, func(r report) bool { return r.Window["lossy"].Sent >= 180 && len(r.Holds) == 2 })
	for what, count := range map[string]func() (int, int){"probes": questions, "answers": answers} {
		if control, others := count(); control < 100 || others > 0 {
			t.Errorf("%d %s in the class of control packets, %d in others", control, what, others)
		}
	}
	w := r.Window["lossy"]
	if loss := float64(w.Lost) / float64(w.Sent); loss < 0.08 || loss > 0.34 { // 20 %; σ is 3 % here
		t.Errorf("measured %.3f of 0.20 lost", loss)
	}
	if g := r.Window["good"]; g.Lost > g.Sent/50 || g.LatencyMS <= 0 || g.LatencyMS > 50 {
		t.Errorf("the other tunnel: %+v, want no loss and a short way", g)
	}
	if want := []string{"dns/172.16.0.1", "service/172.16.0.1:4443"}; !slices.Equal(r.Holds, want) {
		t.Errorf("holds %v, want %v", r.Holds, want)
	}
	lose(t, b, 100)
	until("total loss", 8*time.Second, func(r report) bool {
		return r.Quality["lossy"].LossRatio == 1 && r.Quality["good"].LossRatio < 0.05
	})
	lose(t, b, 0)
	until("no loss", 8*time.Second, func(r report) bool { return r.Quality["lossy"].LossRatio == 0 })
	shut()
	until("servers gone", 8*time.Second, func(r report) bool { return len(r.Holds) == 0 })
	command(t, "", "ip", "-n", a, "link", "del", targets[1].Dev)
	until("interface gone", 8*time.Second, func(r report) bool {
		return r.Quality["lossy"].LossRatio == 1 && r.Quality["good"].LossRatio < 0.05
	})
}
