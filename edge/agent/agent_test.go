package agent

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/inventory"
)

var errHost = errors.New("host is busy")

// ram is a host that only remembers.
type ram struct {
	mu      sync.Mutex
	config  edge.Config
	creds   edge.Credentials
	down    map[string]bool // tunnels whose BFD is down
	lost    map[string]bool // other items of the contract that do not hold
	refuse  bool            // Apply fails
	applies int
}

func (r *ram) Validate(_ context.Context, c edge.Config) error {
	if c.Site == "bad" {
		return fmt.Errorf("%w: site is bad", inventory.ErrInvalid)
	}
	return nil
}

func (r *ram) Apply(_ context.Context, c edge.Config, k edge.Credentials) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse {
		return errHost
	}
	r.config, r.creds = c, k
	r.applies++
	return nil
}

func (r *ram) State(context.Context) (HostState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := HostState{At: time.Now(), Platform: "test"}
	for i, c := range r.config.Circuits {
		st.Circuits = append(st.Circuits, CircuitState{Name: c.Name, Up: true, Counters: Counters{InOctets: uint64(100 + i)}})
	}
	for _, t := range r.config.Tunnels {
		up := !r.down[t.Name]
		if r.lost == nil {
			r.lost = map[string]bool{}
		}
		r.lost["bfd/"+t.Name] = !up
		st.Tunnels = append(st.Tunnels, TunnelState{
			TunnelState: edge.TunnelState{Name: t.Name, Up: up, BFD: up, BGP: up},
			Counters:    Counters{OutOctets: uint64(time.Now().Unix())},
			Probe:       Probe{LatencyMS: 4.5},
		})
	}
	for _, item := range r.config.Contract.Items() {
		if !r.lost[item] {
			st.Holds = append(st.Holds, item)
		}
	}
	return st, nil
}

func (r *ram) Watch(context.Context) <-chan struct{} { return make(chan struct{}) }

func (r *ram) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, edge.ErrUnreachable
}

func (r *ram) setDown(names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = map[string]bool{}
	for _, n := range names {
		r.down[n] = true
	}
}

func (r *ram) setLost(items ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = map[string]bool{}
	for _, i := range items {
		r.lost[i] = true
	}
}

func (r *ram) setRefuse(b bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = b
}

// signer makes documents that the agent under test trusts.
type signer struct{ key *ecdsa.PrivateKey }

func newSigner(tb testing.TB) signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return signer{key}
}

func (s signer) keys() map[string]crypto.PublicKey {
	return map[string]crypto.PublicKey{"rev-1": s.key.Public()}
}

// doc is a signed config with one circuit and two tunnels.
func (s signer) doc(tb testing.TB, rev uint64, change ...func(*edge.Config)) edge.Signed {
	tb.Helper()
	c := edge.Config{
		Device: "e-1", Site: "s-1", Role: inventory.RoleEdge,
		Loopback: netip.MustParseAddr("172.16.0.1"),
		Circuits: []edge.Circuit{{Name: "c-1", Kind: inventory.FTTH, MTU: 1500}},
		BGP:      edge.BGP{ASN: 64512 + uint32(rev), RouterID: netip.MustParseAddr("172.16.0.1")},
	}
	for i, hub := range []inventory.DeviceID{"hub-1", "hub-2"} {
		name := "c-1--" + string(hub)
		c.Tunnels = append(c.Tunnels, edge.Tunnel{
			Name: name, Kind: edge.WireGuard, Circuit: "c-1", Peer: hub, MTU: 1400,
			Local: netip.MustParsePrefix(fmt.Sprintf("172.18.%d.1/31", i)), Remote: netip.MustParseAddr(fmt.Sprintf("172.18.%d.0", i)),
		})
		c.BGP.Neighbours = append(c.BGP.Neighbours, edge.Neighbour{Tunnel: name, Addr: netip.MustParseAddr(fmt.Sprintf("172.18.%d.0", i)), ASN: 64500})
		c.Contract.BFD = append(c.Contract.BFD, name)
	}
	for _, f := range change {
		f(&c)
	}
	d, err := edge.SignConfig(c, rev, s.key, "rev-1")
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func newAgent(tb testing.TB, s signer, host Host, files disk.Files, dir string) *Agent {
	tb.Helper()
	d, err := disk.Open(files, dir)
	if err != nil {
		tb.Fatal(err)
	}
	a, err := New(tb.Context(), Deps{Device: "e-1", Host: host, Dir: d, Keys: s.keys, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// keep puts d in force for good.
func keep(tb testing.TB, a *Agent, id edge.CommitID, d edge.Signed) {
	tb.Helper()
	if err := a.Try(tb.Context(), id, d, time.Minute); err != nil {
		tb.Fatal(err)
	}
	if err := a.Confirm(tb.Context(), id); err != nil {
		tb.Fatal(err)
	}
}

func TestDeadlineReverts(t *testing.T) {
	s := newSigner(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		host := &ram{}
		a := newAgent(t, s, host, disk.OS{}, dir)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go a.Loop(ctx)
		keep(t, a, "one", s.doc(t, 1))
		if err := a.Try(ctx, "two", s.doc(t, 2), 45*time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(44 * time.Second)
		if got := a.Running().Revision; got != 2 {
			t.Fatalf("revision %d in force before the deadline, want 2", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := a.Running(); got.Revision != 1 || host.config.Hash() != got.Hash {
			t.Errorf("revision %d in force after the deadline, want 1 on the host too", got.Revision)
		}
		if err := a.Confirm(ctx, "two"); !errors.Is(err, commit.ErrRefused) {
			t.Errorf("late confirm: %v", err)
		}
	})
}

func TestHostThatRefuses(t *testing.T) {
	s := newSigner(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		host := &ram{}
		a := newAgent(t, s, host, disk.OS{}, dir)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go a.Loop(ctx)
		keep(t, a, "one", s.doc(t, 1))
		host.setRefuse(true)
		if err := a.Try(ctx, "two", s.doc(t, 2), time.Minute); !errors.Is(err, errHost) {
			t.Fatalf("try: %v", err)
		}
		if st, _ := a.State(ctx); st.Revision != 1 || st.Pending != "" {
			t.Errorf("state after a refused apply: %+v", st)
		}
		// Credentials are kept and tried again.
		if err := a.Admit(ctx, edge.Credentials{Epoch: 7}); !errors.Is(err, errHost) {
			t.Errorf("admit: %v", err)
		}
		host.setRefuse(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if host.creds.Epoch != 7 {
			t.Errorf("epoch %d on the host, want 7", host.creds.Epoch)
		}
		if got := newAgent(t, s, host, disk.OS{}, dir).look().state.Credentials.Epoch; got != 7 {
			t.Errorf("epoch %d after a restart, want 7", got)
		}
	})
}

func TestRefusedDocuments(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	a := newAgent(t, s, &ram{}, disk.OS{}, t.TempDir())
	tampered := s.doc(t, 3)
	tampered.Config.BGP.ASN++
	for name, d := range map[string]edge.Signed{
		"other key":    other.doc(t, 3),
		"tampered":     tampered,
		"other device": s.doc(t, 3, func(c *edge.Config) { c.Device = "e-2" }),
		"bad site":     s.doc(t, 3, func(c *edge.Config) { c.Site = "bad" }),
	} {
		if err := a.Try(t.Context(), "x", d, time.Minute); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	if got := a.Running().Revision; got != 0 {
		t.Errorf("revision %d in force", got)
	}
}

func TestRestartOnRealFiles(t *testing.T) {
	s := newSigner(t)
	dir := filepath.Join(t.TempDir(), "state")
	a := newAgent(t, s, &ram{}, disk.OS{}, dir)
	keep(t, a, "one", s.doc(t, 4))
	if err := a.Try(t.Context(), "two", s.doc(t, 5), time.Minute); err != nil {
		t.Fatal(err)
	}
	host := &ram{} // the box lost power
	a = newAgent(t, s, host, disk.OS{}, dir)
	if got := a.Running(); got.Revision != 4 || host.config.Hash() != got.Hash {
		t.Errorf("revision %d in force after the restart, want 4 without any controller", got.Revision)
	}
	if err := a.Confirm(t.Context(), "one"); err != nil {
		t.Errorf("repeated confirm after the restart: %v", err)
	}
	if err := a.Try(t.Context(), "three", s.doc(t, 3), time.Minute); !errors.Is(err, commit.ErrRefused) {
		t.Errorf("older revision after the restart: %v", err)
	}
	// Somebody changed the file: the signature no longer holds, nothing is applied.
	other, host := newSigner(t), &ram{}
	if got := newAgent(t, other, host, disk.OS{}, dir).Running().Revision; got != 0 || host.config.Device != "" {
		t.Errorf("an untrusted config is in force: revision %d", got)
	}
}

// slow is a host whose Apply takes until it is let go.
type slow struct {
	*ram
	under chan struct{} // closed when Apply is under way
	let   chan struct{}
}

func (s slow) Apply(ctx context.Context, c edge.Config, k edge.Credentials) error {
	if c.Device != "" { // not the empty one of the start
		close(s.under)
		<-s.let
	}
	return s.ram.Apply(ctx, c, k)
}

// A controller that got no answer in time asks what is pending: it must hear of
// the commit that is still being put in force.
func TestPendingWhileItIsPutInForce(t *testing.T) {
	s := newSigner(t)
	host := slow{&ram{}, make(chan struct{}), make(chan struct{})}
	a := newAgent(t, s, host, disk.OS{}, t.TempDir())
	done := make(chan error, 1)
	go func() { done <- a.Try(t.Context(), "commit-1", s.doc(t, 1), time.Minute) }()
	<-host.under
	during, err := a.State(t.Context())
	if err != nil || during.Pending != "commit-1" || during.Revision != 0 {
		t.Errorf("while it is put in force: pending %q, revision %d, %v", during.Pending, during.Revision, err)
	}
	close(host.let)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	after, err := a.State(t.Context())
	if err != nil || after.Pending != "commit-1" || after.Revision != 1 {
		t.Errorf("then: pending %q, revision %d, %v", after.Pending, after.Revision, err)
	}
}
