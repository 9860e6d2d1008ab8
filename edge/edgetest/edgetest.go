// Package edgetest is the contract of a device driver, as tests. Every driver
// under edge/ runs it.
package edgetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Device is the name of the device the suite drives.
const Device inventory.DeviceID = "e-26740"

const keyID = "rev-1"

// Revert is the revert time the suite uses; settle is how much later than that
// a device may be, which looks about once a second.
const (
	Revert = time.Second
	settle = 5 * time.Second
)

// Open gives a new device called [Device] that pins keys and has nothing of
// ours on it; it ends with t.
type Open func(t *testing.T, keys map[string]crypto.PublicKey) controller.Driver

// Case is one clause of the contract.
type Case struct {
	Name string
	Run  func(*testing.T, Open)
}

// Run checks the driver against the whole contract in real time, a few seconds.
func Run(t *testing.T, open Open) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel() // most of it is waiting for reverts
			c.Run(t, open)
		})
	}
}

// Key is a revision key.
type Key struct{ private *ecdsa.PrivateKey }

// NewKey makes a key for one test.
func NewKey(t testing.TB) Key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return Key{k}
}

// Public is what a device pins.
func (k Key) Public() map[string]crypto.PublicKey {
	return map[string]crypto.PublicKey{keyID: k.private.Public()}
}

// Sign signs cfg under the key id that [Key.Public] has.
func (k Key) Sign(t testing.TB, cfg edge.Config, revision uint64) edge.Signed {
	t.Helper()
	s, err := edge.SignConfig(cfg, revision, k.private, keyID)
	must(t, err)
	return s
}

// Config is a complete ward config; different n give different ones.
func Config(n int) edge.Config {
	hub := netip.MustParseAddr("172.16.4.0")
	return edge.Config{
		Device: Device, Site: "s-26740", Role: inventory.RoleEdge, Loopback: netip.MustParseAddr("172.16.0.7"),
		Circuits: []edge.Circuit{{Name: "c-26740-a", Kind: inventory.FTTH, UpBPS: inventory.BitRate(100+n) * inventory.Mbps, MTU: 1500}},
		Tunnels: []edge.Tunnel{{
			Name: "c-26740-a--hub-1", Kind: edge.WireGuard, Circuit: "c-26740-a", Peer: "hub-1",
			Endpoint: netip.MustParseAddrPort("203.0.113.1:51820"), Local: netip.MustParsePrefix("172.16.4.1/31"), Remote: hub,
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/10"), netip.MustParsePrefix("172.16.0.0/13")},
			MTU:        1420, Preference: 200,
		}},
		BGP: edge.BGP{
			ASN: 4200026740, RouterID: netip.MustParseAddr("172.16.0.7"), Networks: []netip.Prefix{netip.MustParsePrefix("10.64.16.0/20")},
			Neighbours: []edge.Neighbour{{Tunnel: "c-26740-a--hub-1", Addr: hub, ASN: 4200000001, Preference: 200, BFDMinMS: 300, BFDMult: 3}},
		},
		Segments: []edge.Segment{{Kind: inventory.Staff, V4: netip.MustParsePrefix("10.64.16.0/23"), V6: netip.MustParsePrefix("fd00:64:1::/64")}},
		Rules: []edge.Rule{{
			Permit: "p-mail", From: inventory.Staff, Src: []netip.Prefix{netip.MustParsePrefix("10.64.16.0/23")},
			Dst: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/28")}, Ports: []inventory.PortRange{{Proto: inventory.TCP, From: 993, To: 993}},
		}},
		Contract: edge.Contract{BFD: []string{"c-26740-a--hub-1"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/28")}},
	}
}

// rig is one device under test.
type rig struct {
	*testing.T
	key Key
	controller.Driver
	n int
}

func newRig(t *testing.T, open Open) *rig {
	key := NewKey(t)
	return &rig{T: t, key: key, Driver: open(t, key.Public())}
}

// doc is the signed document of revision rev; its content depends on rev.
func (r *rig) doc(rev uint64) edge.Signed { return r.key.Sign(r.T, Config(int(rev)), rev) }

// keep puts revision rev in force for good and returns its document.
func (r *rig) keep(rev uint64) edge.Signed {
	r.Helper()
	r.n++
	id, want := edge.CommitID(fmt.Sprintf("keep-%d", r.n)), r.doc(rev)
	must(r, r.Apply(r.Context(), id, want, time.Minute))
	must(r, r.Confirm(r.Context(), id))
	return want
}

// runs fails unless want is in force, with pending as the commit in flight.
func (r *rig) runs(want edge.Signed, pending edge.CommitID) {
	r.Helper()
	if err := r.check(want, pending); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) check(want edge.Signed, pending edge.CommitID) error {
	got, err := r.Running(r.Context())
	if err != nil {
		return err
	}
	id, err := r.Pending(r.Context())
	if err != nil {
		return err
	}
	st, err := r.State(r.Context())
	if err != nil {
		return err
	}
	change := edge.Diff(got.Config, want.Config)
	switch {
	case got.Revision != want.Revision || got.Hash != want.Hash || got.Device != want.Device:
		return fmt.Errorf("runs revision %d (%.12s) of %q, want %d (%.12s)", got.Revision, got.Hash, got.Device, want.Revision, want.Hash)
	case !change.Empty():
		return fmt.Errorf("what runs differs from what was wanted:\n%s", change)
	case id != pending:
		return fmt.Errorf("pending %q, want %q", id, pending)
	case st.Revision != want.Revision || st.Hash != want.Hash || st.Pending != pending:
		return fmt.Errorf("state tells revision %d (%.12s), pending %q; want %d (%.12s), %q", st.Revision, st.Hash, st.Pending, want.Revision, want.Hash, pending)
	case st.At.IsZero() || time.Since(st.At) > 2*time.Second:
		return fmt.Errorf("state is of %s, want at most a second old", st.At)
	}
	return nil
}

// returnsTo waits until the device runs want by itself.
func (r *rig) returnsTo(want edge.Signed) {
	r.Helper()
	tick := time.NewTicker(100 * time.Millisecond) // each look reads the whole device, in fake time as well
	defer tick.Stop()
	for end := time.Now().Add(Revert + settle); ; <-tick.C {
		err := r.check(want, "")
		if err == nil {
			return
		}
		if time.Now().After(end) {
			r.Fatalf("not back by itself: %v", err)
		}
	}
}

// refused fails unless err is a rejection.
func (r *rig) refused(what string, err error) {
	r.Helper()
	if !errors.Is(err, edge.ErrRejected) {
		r.Fatalf("%s: %v, want ErrRejected", what, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
