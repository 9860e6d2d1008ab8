package fake_test

import (
	"context"
	"crypto"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/edgetest"
	"github.com/wardnet/wardnet/edge/fake"
)

// The suite runs in fake time: the reverts take none.
func TestContract(t *testing.T) {
	for _, c := range edgetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.Run(t, func(_ *testing.T, keys map[string]crypto.PublicKey) controller.Driver {
					return fake.New(edgetest.Device, keys)
				})
			})
		})
	}
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := edgetest.NewKey(t)
		d := fake.New(edgetest.Device, key.Public())
		want := key.Sign(t, edgetest.Config(1), 1)

		d.Break(fake.Faults{Unreachable: true})
		if err := d.Apply(t.Context(), "c-1", want, time.Minute); !errors.Is(err, edge.ErrUnreachable) {
			t.Errorf("Apply() on a dead device = %v", err)
		}
		full := errors.New("disk full")
		d.Break(fake.Faults{Reject: full})
		if err := d.Apply(t.Context(), "c-1", want, time.Minute); !errors.Is(err, edge.ErrRejected) || !errors.Is(err, full) {
			t.Errorf("Apply() = %v, want ErrRejected with its cause", err)
		}
		d.Break(fake.Faults{Delay: time.Minute})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.State(ctx); !errors.Is(err, edge.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("State() of a slow device = %v", err)
		}
		d.Break(fake.Faults{LoseReply: true, Down: map[string]bool{want.Config.Tunnels[0].Name: true}})
		if err := d.Apply(t.Context(), "c-1", want, time.Minute); !errors.Is(err, edge.ErrUnreachable) {
			t.Errorf("Apply() with its answer lost = %v", err)
		}
		if id, err := d.Pending(t.Context()); id != "c-1" || err != nil {
			t.Errorf("Pending() = %q, %v; the push was carried out", id, err)
		}
		if st, err := d.State(t.Context()); err != nil || st.Tunnels[0].Up {
			t.Errorf("State() = %+v, %v; want the tunnel down", st, err)
		}
		d.Restart()
		if run, err := d.Running(t.Context()); err != nil || run.Revision != 0 {
			t.Errorf("runs revision %d after a restart, %v", run.Revision, err)
		}

		d.Break(fake.Faults{})
		if err := errors.Join(d.Apply(t.Context(), "c-2", want, time.Minute), d.Confirm(t.Context(), "c-2")); err != nil {
			t.Fatal(err)
		}
		d.Edit(func(c *edge.Config) { c.Rules = nil })
		if run, err := d.Running(t.Context()); err != nil || run.Hash == want.Hash || run.Hash != run.Config.Hash() {
			t.Errorf("Running() after an edit = %.12s, %v", run.Hash, err)
		}
		if a, c := d.Counts(); a != 2 || c != 1 {
			t.Errorf("Counts() = %d, %d; want 2, 1", a, c)
		}
	})
}
