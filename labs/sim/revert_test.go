package sim

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/labs/simhost"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// TestBrokenConfigIsTakenBack: a config that breaks a tunnel is taken back by
// the edge itself and reported with the failed check within a minute; nobody
// confirms or cancels.
func TestBrokenConfigIsTakenBack(t *testing.T) {
	edges, configs := town(1)
	c := newControlPlane(t)
	c.admit(edges)
	control, _ := start(t, edges, t.TempDir())
	for _, e := range edges {
		c.driver(e.Device)
	}
	for i := range configs {
		configs[i].Contract.Prefixes = []netip.Prefix{netip.MustParsePrefix("172.16.0.9/32")}
		c.push(configs[i], 1)
	}
	eventually(t, 15*time.Second, func() error {
		if s := send(t, control, Request{Op: OpStats}).Stats; s.TunnelsUp != 4 {
			return fmt.Errorf("stats %+v, want 4 tunnel ends up", s)
		}
		return nil
	})
	ward, start := configs[2], time.Now()
	ward.Tunnels = slices.Clone(ward.Tunnels)
	broken := ward.Tunnels[0].Name
	ward.Tunnels[0].Remote = netip.MustParseAddr("172.18.99.0") // the hub is elsewhere
	key := c.pki.Keys()[pki.RevisionKey]
	want, err := edge.SignConfig(ward, 2, key.Signer, key.ID)
	must(t, err)
	d := c.driver(ward.Device)
	must(t, d.Apply(t.Context(), "bad", want, 45*time.Second))
	var state edge.State
	eventually(t, time.Minute, func() error {
		var err error
		state, err = c.driver(ward.Device).State(t.Context())
		if err == nil && state.LastRevert == nil {
			err = fmt.Errorf("revision %d, pending %q, nothing taken back", state.Revision, state.Pending)
		}
		return err
	})
	r := state.LastRevert
	if state.Revision != 1 || r.Commit != "bad" || r.Revision != 2 || !slices.Equal(r.Failed, []string{"bfd/" + broken}) {
		t.Errorf("revision %d in force, last revert %+v; want 1, and the check bfd/%s", state.Revision, r, broken)
	}
	t.Logf("reported after %s: %s", time.Since(start).Round(time.Millisecond), r)
}

// TestRunDialsAsTold: a box whose circuits are its own reaches enrolment and
// the management channel by them, before it has an identity.
func TestRunDialsAsTold(t *testing.T) {
	edges, _ := town(1)
	c := newControlPlane(t)
	c.admit(edges)
	e := edges[2]
	under, err := simhost.New(simhost.Config{Circuits: []simhost.Circuit{{ID: "c-001-a", Device: e.Device}}})
	must(t, err)
	var mu sync.Mutex
	dialled := map[string]int{}
	ctx, cancel := context.WithCancel(t.Context())
	up, done := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		done <- agent.Run(ctx, agent.RunConfig{
			Dir: t.TempDir(), Bundle: e.Bundle, Log: slog.New(slog.DiscardHandler),
			Host: func(id *enrol.Identity) (agent.Host, error) { return under.Host(e.Device, id.WireGuardPublicKey) },
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				mu.Lock()
				dialled[addr]++
				mu.Unlock()
				var d net.Dialer
				return d.DialContext(ctx, network, addr)
			},
			OnUp: func() { up <- struct{}{} },
		})
	}()
	defer func() {
		cancel()
		must(t, <-done)
	}()
	c.driver(e.Device)
	select {
	case <-up:
	case err := <-done:
		done <- err
		t.Fatalf("the agent ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("no management channel within 30 s")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, addr := range []string{e.Bundle.EnrolURL[len("https://"):], e.Bundle.Channel} {
		if dialled[addr] == 0 {
			t.Errorf("%s was not dialled as told: %v", addr, dialled)
		}
	}
}
