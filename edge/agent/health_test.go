package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
	"github.com/wardnet/wardnet/edge/agent/disk"
)

// rich adds one item of every kind to the contract.
func rich(c *edge.Config) {
	c.Contract.Prefixes = []netip.Prefix{netip.MustParsePrefix("172.16.0.9/32")}
	c.Contract.DNS = []netip.Addr{netip.MustParseAddr("10.64.0.53")}
	c.Contract.Services = []netip.AddrPort{netip.MustParseAddrPort("10.64.0.10:443")}
}

// watched runs an agent with a rich contract confirmed and its channel up.
func watched(t *testing.T, s signer, dir string) (*Agent, *ram) {
	t.Helper()
	host := &ram{}
	a := newAgent(t, s, host, disk.OS{}, dir)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Loop(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	a.Channel(true)
	keep(t, a, "one", s.doc(t, 1, rich))
	return a, host
}

// TestHealthContractReverts: each kind of item, failing for 10 s after it held
// before the change, takes the change back, and the device says so.
func TestHealthContractReverts(t *testing.T) {
	s := newSigner(t)
	for name, fail := range map[string]func(*Agent, *ram){
		"bfd/c-1--hub-1":         func(_ *Agent, h *ram) { h.setDown("c-1--hub-1") },
		"prefix/172.16.0.9/32":   func(_ *Agent, h *ram) { h.setLost("prefix/172.16.0.9/32") },
		"dns/10.64.0.53":         func(_ *Agent, h *ram) { h.setLost("dns/10.64.0.53") },
		"service/10.64.0.10:443": func(_ *Agent, h *ram) { h.setLost("service/10.64.0.10:443") },
		"channel":                func(a *Agent, _ *ram) { a.Channel(false) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				a, host := watched(t, s, dir)
				start := time.Now()
				if err := a.Try(t.Context(), "two", s.doc(t, 2, rich), time.Minute); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2500 * time.Millisecond)
				fail(a, host)
				time.Sleep(9 * time.Second)
				synctest.Wait()
				if err := a.Confirm(t.Context(), "two"); !errors.Is(err, commit.ErrNotYet) || !strings.Contains(err.Error(), name) {
					t.Errorf("confirm while the contract fails: %v", err)
				}
				if got := a.Running().Revision; got != 2 {
					t.Fatalf("revision %d in force within the grace", got)
				}
				time.Sleep(3 * time.Second)
				synctest.Wait()
				st, err := a.State(t.Context())
				r := st.LastRevert
				if err != nil || st.Revision != 1 || r == nil {
					t.Fatalf("state %+v, %v; want revision 1 and why", st, err)
				}
				if r.Commit != "two" || r.Revision != 2 || !slices.Equal(r.Failed, []string{name}) {
					t.Errorf("last revert %+v, want commit two, revision 2, failed %s", r, name)
				}
				if took := r.At.Sub(start); took > 15*time.Second {
					t.Errorf("reverted after %s", took)
				}
				again := newAgent(t, s, &ram{}, disk.OS{}, dir)
				if st, _ := again.State(t.Context()); st.LastRevert == nil || st.LastRevert.Commit != "two" {
					t.Errorf("after a restart the last revert is %+v", st.LastRevert)
				}
			})
		})
	}
}

// What did not hold before, or is no longer in the contract, is not asked for.
func TestHealthContractIsFair(t *testing.T) {
	s := newSigner(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a, host := watched(t, s, dir)
		host.setLost("dns/10.64.0.53")
		host.setDown("c-1--hub-2")
		less := func(c *edge.Config) {
			rich(c)
			c.Contract.Services = nil
		}
		if err := a.Try(t.Context(), "two", s.doc(t, 2, less), time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := a.Running().Revision; got != 2 {
			t.Fatalf("revision %d in force: %+v", got, a.look().state.LastRevert)
		}
		// The channel came back since the change: later silence is the controller's.
		a.Channel(false)
		time.Sleep(3 * time.Second)
		a.Channel(true)
		a.Channel(false)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := a.Running().Revision; got != 2 {
			t.Fatalf("revision %d in force after the channel was re-established: %+v", got, a.look().state.LastRevert)
		}
		if err := a.Confirm(t.Context(), "two"); err != nil {
			t.Error(err)
		}
	})
}

// A host that cannot go back for a while does not change what is recorded.
func TestRevertKeepsItsReason(t *testing.T) {
	s := newSigner(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a, host := watched(t, s, dir)
		if err := a.Try(t.Context(), "two", s.doc(t, 2, rich), 30*time.Second); err != nil {
			t.Fatal(err)
		}
		host.setDown("c-1--hub-1")
		time.Sleep(9500 * time.Millisecond)
		host.setRefuse(true)
		time.Sleep(40 * time.Second) // past the deadline too
		host.setRefuse(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		st, _ := a.State(t.Context())
		if r := st.LastRevert; st.Revision != 1 || r == nil || !slices.Equal(r.Failed, []string{"bfd/c-1--hub-1"}) || strings.Contains(r.Why, "deadline") {
			t.Errorf("revision %d, last revert %+v", st.Revision, r)
		}
	})
}
