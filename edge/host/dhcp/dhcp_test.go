package dhcp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge/host/hosttest"
)

func TestPause(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := Lease{
		Address: netip.MustParsePrefix("192.0.2.9/24"), Granted: now,
		Renew: now.Add(time.Hour), Rebind: now.Add(105 * time.Minute), Expires: now.Add(2 * time.Hour),
	}
	for name, tt := range map[string]struct {
		lease     Lease
		confirm   bool
		fails     int
		at        time.Duration // after the grant
		low, high time.Duration
	}{
		"first":                  {Lease{}, false, 0, 0, 0, 0},
		"no server":              {Lease{}, false, 1, 0, time.Second / 2, time.Second},
		"no server for long":     {Lease{}, false, 30, 0, 8 * time.Second, 16 * time.Second},
		"until T1":               {l, false, 0, 0, time.Hour, time.Hour},
		"unconfirmed":            {l, true, 3, 0, 2 * time.Second, 4 * time.Second},
		"half the way to T2":     {l, false, 1, time.Hour, 22 * time.Minute, 23 * time.Minute},
		"half the way to expiry": {l, false, 4, 110 * time.Minute, 5 * time.Minute, 5 * time.Minute},
		"not too often":          {l, false, 9, 119*time.Minute + 50*time.Second, 10 * time.Second, 10 * time.Second},
		"expired":                {l, false, 9, 3 * time.Hour, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if d := pause(tt.lease, tt.confirm, tt.fails, now.Add(tt.at)); d < tt.low || d > tt.high {
				t.Errorf("pause = %s, want %s to %s", d, tt.low, tt.high)
			}
		})
	}
}

func TestDamagedLeaseIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lease")
	want := Lease{Address: netip.MustParsePrefix("192.0.2.9/24"), Expires: time.Now().Add(time.Hour)}
	if err := save(file, want); err != nil {
		t.Fatal(err)
	}
	if got := Stored(file, time.Now()); !got.Same(want) {
		t.Errorf("Stored = %+v", got)
	}
	if got := Stored(file, time.Now().Add(2*time.Hour)); got.Address.IsValid() {
		t.Error("an expired lease is used")
	}
	if got := Stored(file+"x", time.Now()); got.Address.IsValid() {
		t.Error("no file is a lease")
	}
}

// TestServer gets an address of a real dnsmasq, keeps it over a restart, renews
// it, and moves when the server refuses it.
func TestServer(t *testing.T) {
	if !hosttest.Enter(t, "carrier") {
		return
	}
	carrier := hosttest.Space("carrier")
	hosttest.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "ward", "netns", carrier)
	hosttest.Run(t, "ip", "link", "set", "eth0", "up")
	hosttest.Run(t, "ip", "-n", carrier, "addr", "add", "198.51.100.1/24", "dev", "ward")
	hosttest.Run(t, "ip", "-n", carrier, "link", "set", "ward", "up")
	dir := t.TempDir()
	stop := serve(t, carrier, dir, "198.51.100.50,198.51.100.50")

	file := filepath.Join(dir, "lease")
	told := make(chan Lease, 16)
	kick := make(chan struct{}, 1)
	run := func() context.CancelFunc {
		ctx, cancel := context.WithCancel(t.Context())
		c := &Client{Port: "eth0", File: file, Log: slog.New(slog.DiscardHandler), Changed: func(l Lease) { told <- l }, Kick: kick}
		end := make(chan struct{})
		go func() { c.Run(ctx); close(end) }()
		return func() { cancel(); <-end }
	}
	next := func(what, want string) Lease {
		t.Helper()
		select {
		case l := <-told:
			if l.Address.String() != want {
				t.Fatalf("%s: %+v, want %s", what, l, want)
			}
			return l
		case <-time.After(15 * time.Second):
			t.Fatalf("%s: nothing was told", what)
		}
		return Lease{}
	}
	end := run()
	l := next("first lease", "198.51.100.50/24")
	if l.Gateway.String() != "198.51.100.1" || len(l.DNS) != 1 || l.DNS[0].String() != "198.51.100.53" {
		t.Errorf("lease = %+v", l)
	}
	end()

	// Without a server the next process uses the lease at once.
	stop()
	end = run()
	if again := next("stored lease", "198.51.100.50/24"); !again.Granted.Equal(l.Granted) {
		t.Errorf("the lease is new: %+v", again)
	}
	end()

	// A server that knows us renews; one that does not refuses, and we move.
	stop = serve(t, carrier, dir, "198.51.100.50,198.51.100.50")
	end = run()
	next("stored lease", "198.51.100.50/24")
	hosttest.Eventually(t, 10*time.Second, "the lease is confirmed", func() bool {
		return Stored(file, time.Now()).Granted.After(l.Granted)
	})
	stop()
	stop = serve(t, carrier, dir, "198.51.100.60,198.51.100.60")
	kick <- struct{}{}
	for {
		l := <-told
		if !l.Address.IsValid() {
			continue // it was refused, then asked anew
		}
		if l.Address.String() != "198.51.100.60/24" {
			t.Fatalf("after the server changed: %+v", l)
		}
		break
	}
	end()
	stop()
}

// serve runs dnsmasq on the carrier's side.
func serve(t *testing.T, space, dir, pool string) (stop func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", space, "/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
		"--port=0", "--no-ping", "--dhcp-authoritative", "--interface=ward", "--bind-interfaces", "--user=root", "--log-facility=-", "--log-dhcp",
		"--dhcp-range="+pool+",255.255.255.0,2m", "--dhcp-option=option:dns-server,198.51.100.53",
		"--dhcp-leasefile="+filepath.Join(dir, "dnsmasq.leases"), "--pid-file="+filepath.Join(dir, "dnsmasq.pid"))
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			fmt.Println(said.String())
		}
	})
	var once bool
	return func() {
		if !once {
			once = true
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()
		}
	}
}
