//go:build lab

package netconf

import (
	"context"
	"crypto"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/edgetest"
	"github.com/wardnet/wardnet/edge/foreign"
)

// The controller's contract on a real server: netconfd as it is, and as a
// server would be that lacks persistent confirmed commits, confirmed commits
// altogether, or NETCONF 1.1.
func TestContract(t *testing.T) {
	t.Parallel()
	for mode, emulated := range map[string]bool{"": false, "no persistent one": false, "no confirmed commit": true, "base 1.0": false} {
		name := mode
		if name == "" {
			name = "as it is"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edgetest.Run(t, func(t *testing.T, keys map[string]crypto.PublicKey) controller.Driver {
				d := drive(t, box(t, newServer(t, mode).config(nil)), &ram{}, keys)
				if _, err := d.Running(t.Context()); err != nil {
					t.Fatal(err)
				}
				if d.Emulated() != emulated {
					t.Errorf("Emulated() = %v with %q", d.Emulated(), mode)
				}
				return d
			})
		})
	}
}

// rig is a driver on a server, by a proxy.
type rig struct {
	*testing.T
	key     edgetest.Key
	server  *server
	proxy   *proxy
	box     *Box
	journal *ram
	*foreign.Driver
}

func newRig(t *testing.T, mode string) *rig {
	s := newServer(t, mode)
	r := &rig{T: t, key: edgetest.NewKey(t), server: s, proxy: newProxy(t, s.addr), journal: &ram{}}
	r.box = box(t, s.config(r.proxy))
	r.Driver = drive(t, r.box, r.journal, r.key.Public())
	return r
}

func (r *rig) doc(rev uint64) edge.Signed {
	return r.key.Sign(r.T, edgetest.Config(int(rev)), rev)
}

func (r *rig) keep(rev uint64) {
	r.Helper()
	id := edge.CommitID("keep-" + r.doc(rev).Hash[:6])
	must(r, r.Apply(r.Context(), id, r.doc(rev), time.Minute))
	must(r, r.Confirm(r.Context(), id))
}

// restart is the controller's: a new driver and a new session.
func (r *rig) restart() {
	r.Helper()
	must(r, r.Close())
	must(r, r.box.Close())
	r.box = box(r.T, r.server.config(nil))
	r.Driver = drive(r.T, r.box, r.journal, r.key.Public())
}

// runs waits until the device holds revision rev as the driver says.
func (r *rig) runs(rev uint64) {
	r.Helper()
	var got edge.Signed
	var err error
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-tick.C {
		if got, err = r.Running(r.Context()); err == nil && got.Hash == r.doc(rev).Hash && got.Revision == rev {
			return
		}
	}
	r.Fatalf("runs revision %d (%.8s), %v; want %d", got.Revision, got.Hash, err, rev)
}

// direct is a session of somebody else.
func (r *rig) direct() *session {
	r.Helper()
	s, err := open(r.Context(), r.server.configured())
	must(r, err)
	r.Cleanup(s.close)
	return s
}

func (s *server) configured() Config { return New(s.config(nil)).cfg }

func TestLockedBySomebodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.keep(5)
	other := r.direct()
	for what, tt := range map[string]struct {
		take, give any
		hint       string
	}{
		"running":   {lock{Target: running}, unlock{Target: running}, "locks the running datastore; wait, or end that session"},
		"candidate": {lock{Target: candidate}, unlock{Target: candidate}, "locks the candidate datastore; wait, or end that session"},
		"left over": {edit("172.16.0.99"), discard, "discard them on the device"},
	} {
		_, err := other.rpc(t.Context(), tt.take)
		must(t, err)
		err = r.Apply(t.Context(), "c-6", r.doc(6), time.Minute)
		if !errors.Is(err, foreign.ErrBusy) || errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), tt.hint) {
			t.Errorf("%s: %v", what, err)
		}
		_, err = other.rpc(t.Context(), tt.give)
		must(t, err)
		r.runs(5)
	}
	r.keep(6)
	r.runs(6)
}

// edit is a change of the loopback that somebody makes.
func edit(loopback string) editConfig {
	e := editConfig{Target: candidate, Default: "merge"}
	addr := netip.MustParseAddr(loopback)
	e.Config.Router.Loopback = &addr
	return e
}

func TestDrift(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.keep(5)
	other := r.direct()
	for _, op := range []any{edit("172.16.0.99"), commitNow} {
		_, err := other.rpc(t.Context(), op)
		must(t, err)
	}
	got, err := r.Running(t.Context())
	must(t, err)
	change := edge.Diff(r.doc(5).Config, got.Config)
	if len(change) != 1 || change[0].Kind != edge.KindLoopback || got.Hash == r.doc(5).Hash {
		t.Fatalf("drift is told as:\n%s", change)
	}
	r.keep(6)
	r.runs(6)
}

// What is archived is all that the device holds, and a server that serves no
// sessions says nothing of them.
func TestTextAndSessions(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.keep(5)
	text, complete, err := r.box.Text(t.Context())
	must(t, err)
	if !complete || !strings.Contains(text, "<loopback>"+r.doc(5).Config.Loopback.String()+"</loopback>\n") || strings.Contains(text, "rpc-reply") {
		t.Errorf("complete %t:\n%s", complete, text)
	}
	if again, _, err := r.box.Text(t.Context()); err != nil || again != text {
		t.Errorf("asked again (%v):\n%s", err, again)
	}
	states, err := r.box.Tunnels(t.Context(), r.doc(5).Config)
	must(t, err)
	if len(states) != len(r.doc(5).Config.BGP.Neighbours) || len(states) == 0 {
		t.Fatalf("sessions %+v", states)
	}
	for _, s := range states {
		if !s.Unknown || s.BGP {
			t.Errorf("%+v, want it not known", s)
		}
	}
}

// A session of ours that broke while it held the locks does not keep us out.
func TestOwnStaleLock(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.keep(5)
	err := r.box.with(t.Context(), func(s *session) error {
		must(t, r.box.lock(t.Context(), s, running))
		must(t, r.box.lock(t.Context(), s, candidate))
		r.proxy.strand()
		_, err := s.rpc(t.Context(), discard)
		return err
	})
	if !errors.Is(err, edge.ErrUnreachable) {
		t.Fatalf("on a cut connection: %v", err)
	}
	other := r.direct()
	if _, err := other.rpc(t.Context(), lock{Target: running}); err == nil {
		t.Fatal("the server freed the lock by itself; the test shows nothing")
	}
	r.keep(6)
	r.runs(6)
}

// The connection is cut at one point after the other of a change.
func TestDroppedMidCommit(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", "no persistent one", "no confirmed commit"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, mode)
			r.keep(5)
			failed := 0
			for cut, rev := 0, uint64(6); ; cut, rev = cut+400, rev+1 {
				must(t, r.box.Close()) // the count starts with a new connection
				r.proxy.cutAfter(cut)
				err := r.Apply(t.Context(), edge.CommitID(r.doc(rev).Hash), r.doc(rev), time.Minute)
				if errors.Is(err, edge.ErrRejected) {
					t.Fatalf("cut after %d bytes: a broken connection is taken for a refusal: %v", cut, err)
				}
				r.proxy.cutAfter(-1)
				if err == nil {
					if failed < 5 {
						t.Fatalf("only %d cuts hit", failed)
					}
					t.Logf("%d cuts, up to %d bytes", failed, cut)
					r.runs(rev)
					must(t, r.Confirm(t.Context(), edge.CommitID(r.doc(rev).Hash)))
					r.runs(rev)
					return
				}
				failed++
				r.runs(5)
			}
		})
	}
}

// The device returns by itself: nobody is there who could.
func TestDeviceReturnsByItself(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", "no persistent one"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, mode)
			r.keep(5)
			must(t, r.Driver.Close())
			have, err := r.box.Read(t.Context(), r.doc(5).Config)
			must(t, err)
			must(t, r.box.Try(t.Context(), "c-6", have, r.doc(6).Config, 1500*time.Millisecond))
			if mode == "" {
				must(t, r.box.Close()) // it has a name, and outlives the session
			}
			got, err := r.box.Read(t.Context(), r.doc(6).Config)
			must(t, err)
			if !edge.Diff(got, r.doc(6).Config).Empty() {
				t.Fatal("not on trial")
			}
			// netconfd looks at its timers when nobody asks it anything for a second.
			<-time.After(4 * time.Second)
			got, err = r.box.Read(t.Context(), r.doc(5).Config)
			must(t, err)
			if change := edge.Diff(got, r.doc(5).Config); !change.Empty() {
				t.Fatalf("it did not return:\n%s", change)
			}
			if err := r.box.Keep(t.Context(), "c-6"); mode == "" && !errors.Is(err, edge.ErrRejected) {
				t.Fatalf("confirmed after it had returned: %v", err)
			}
			if mode != "" {
				return // without a name this confirmed nothing, see foreign.Driver
			}
			if err := r.box.Cancel(t.Context(), "c-6"); !errors.Is(err, edge.ErrRejected) {
				t.Fatalf("cancelled after it had returned: %v", err)
			}
		})
	}
}

func TestControllerRestarts(t *testing.T) {
	t.Parallel()
	for mode, adopted := range map[string]bool{"": true, "no persistent one": false, "no confirmed commit": true} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, mode)
			r.keep(5)
			must(t, r.Apply(t.Context(), "c-6", r.doc(6), 5*time.Second))
			r.restart()
			if adopted {
				r.runs(6)
				must(t, r.Confirm(t.Context(), "c-6"))
				<-time.After(6 * time.Second) // what must not happen can only be waited out
				r.runs(6)
				return
			}
			r.runs(5) // the device took it back with the session
			if err := r.Confirm(t.Context(), "c-6"); !errors.Is(err, edge.ErrRejected) {
				t.Fatalf("confirm: %v", err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.keep(5)
	bad := edgetest.Config(6)
	bad.Circuits[0].Kind = "smoke signals"
	err := r.Apply(t.Context(), "c-6", r.key.Sign(t, bad, 6), time.Minute)
	if !errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), "wr:circuit[wr:name='c-26740-a']/wr:kind") {
		t.Fatalf("apply: %v", err)
	}
	r.runs(5)
	r.keep(6) // and no lock and no rest of it is left
}

func TestBadAnswers(t *testing.T) {
	t.Parallel()
	for mode, hint := range map[string]string{
		"cut off": "the session ended", "not XML": "cannot be read", "wrong chunk size": "cannot be read", "no reply": "no answer within 3s",
		"no hello": "is it a NETCONF server?", "no candidate": "no candidate datastore", "newer module": `an element "loopbuck"`,
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := newServer(t, mode).config(nil)
			if mode == "no reply" {
				c.Timeout = 3 * time.Second
			}
			b := box(t, c)
			if mode == "newer module" { // something has to be there
				must(t, b.Write(t.Context(), edge.Config{}, edgetest.Config(1)))
			}
			_, err := b.Read(t.Context(), edge.Config{})
			rejected := mode == "no candidate"
			if err == nil || !strings.Contains(err.Error(), hint) || errors.Is(err, edge.ErrRejected) != rejected {
				t.Fatalf("read: %v", err)
			}
			t.Log(err)
		})
	}
}

func TestWhoAnswers(t *testing.T) {
	t.Parallel()
	s := newServer(t, "")
	for what, tt := range map[string]struct {
		edit func(*Config)
		want error
		not  error
	}{
		"another device": {func(c *Config) { c.Wire.HostName = "e-1.devices" }, foreign.ErrOtherDevice, edge.ErrUnreachable},
		"not our CA":     {func(c *Config) { c.Wire.HostCA = newKey(t).PublicKey() }, edge.ErrUnreachable, edge.ErrRejected},
		"not our user": {func(c *Config) {
			c.Wire.Signer = func(context.Context) (ssh.Signer, error) {
				return certify(t, newKey(t), newKey(t), ssh.UserCert, "root"), nil
			}
		}, edge.ErrUnreachable, edge.ErrRejected},
		"a bare key": {func(c *Config) { c.Wire.Signer = func(context.Context) (ssh.Signer, error) { return newKey(t), nil } }, edge.ErrUnreachable, edge.ErrRejected},
		"nobody":     {func(c *Config) { c.Wire.Addr = "127.0.0.1:1" }, edge.ErrUnreachable, edge.ErrRejected},
	} {
		c := s.config(nil)
		tt.edit(&c)
		_, err := box(t, c).Read(t.Context(), edge.Config{})
		if !errors.Is(err, tt.want) || errors.Is(err, tt.not) {
			t.Errorf("%s: %v", what, err)
		}
		t.Log(err)
	}
}
