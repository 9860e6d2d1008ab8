package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/inventory"
)

// Whatever comes, a hub lets in nobody new by a stale epoch and keeps nobody
// whom an epoch lacks; a fresh one it takes as it is, and so does an edge.
func TestAdmissible(t *testing.T) {
	now := time.Unix(1e9, 0)
	peers := rapid.MapOf(rapid.SampledFrom([]inventory.DeviceID{"a", "b", "c", "d"}), rapid.SampledFrom([]string{"1", "2"}))
	rapid.Check(t, func(t *rapid.T) {
		age := time.Duration(rapid.IntRange(-60, 72*60).Draw(t, "minutes")) * time.Minute
		role := rapid.SampledFrom([]inventory.DeviceRole{inventory.RoleHub, inventory.RoleEdge, ""}).Draw(t, "role")
		have := edge.Credentials{Epoch: 1, Keys: peers.Draw(t, "have")}
		next := edge.Credentials{Epoch: 2, At: now.Add(-age), Keys: peers.Draw(t, "next")}
		got, late := admissible(role, have, next, now)
		if got.Epoch != next.Epoch || !got.At.Equal(next.At) {
			t.Fatalf("epoch %d of %s", got.Epoch, got.At)
		}
		if role != inventory.RoleHub || age < EpochLife {
			if !maps.Equal(got.Keys, next.Keys) || len(late) > 0 {
				t.Fatalf("%v late of a fresh epoch", late)
			}
			return
		}
		for id, key := range got.Keys {
			if have.Keys[id] != key || next.Keys[id] != key {
				t.Fatalf("%s is admitted", id)
			}
		}
		for id, key := range next.Keys {
			if _, in := got.Keys[id]; in == slices.Contains(late, id) || !in && have.Keys[id] == key {
				t.Fatalf("%s: admitted %v, late %v", id, in, late)
			}
		}
	})
}

func TestAlarms(t *testing.T) {
	now := time.Unix(1e9, 0)
	old, young := now.Add(-EpochLife), now.Add(time.Minute-EpochLife)
	for _, c := range []struct {
		role inventory.DeviceRole
		set  edge.Credentials
		want []string
	}{
		{inventory.RoleHub, edge.Credentials{Epoch: 3, At: old}, []string{StaleEpoch}},
		{inventory.RoleHub, edge.Credentials{Epoch: 3}, []string{StaleEpoch}}, // of an unknown age
		{inventory.RoleHub, edge.Credentials{Epoch: 3, At: young}, nil},
		{inventory.RoleHub, edge.Credentials{}, nil},
		{inventory.RoleEdge, edge.Credentials{Epoch: 3, At: old}, nil},
	} {
		if got := alarms(c.role, c.set, now); !slices.Equal(got, c.want) {
			t.Errorf("%s, %+v: %v", c.role, c.set, got)
		}
	}
}

// A hub that boots with an old epoch and no controller runs the peers it has
// and says so; a stale set shrinks it and adds nobody; a fresh one does both,
// and so is the old set when it is said again.
func TestHubWithAnOldEpoch(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		host := &ram{}
		set := func(epoch uint64, at time.Time, ids ...inventory.DeviceID) edge.Credentials {
			c := edge.Credentials{Epoch: epoch, At: at, Keys: map[inventory.DeviceID]string{}}
			for _, id := range ids {
				c.Keys[id] = "key-" + string(id)
			}
			return c
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		first := newAgent(t, s, host, disk.OS{}, dir)
		keep(t, first, "one", s.doc(t, 1, func(c *edge.Config) { c.Role = inventory.RoleHub }))
		must(first.Admit(t.Context(), set(1, time.Now(), "w-1", "w-2")))
		born := time.Now()

		time.Sleep(EpochLife + time.Hour) // and the power goes
		a := newAgent(t, s, host, disk.OS{}, dir)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go a.Loop(ctx)
		is := func(what string, alarm bool, ids ...inventory.DeviceID) {
			t.Helper()
			time.Sleep(2 * alarmPause)
			if got := slices.Sorted(maps.Keys(host.creds.Keys)); !slices.Equal(got, ids) {
				t.Errorf("%s: peers %v, want %v", what, got, ids)
			}
			st, err := a.State(t.Context())
			snap, err2 := a.snapshot(t.Context())
			if err != nil || err2 != nil || slices.Contains(st.Alarms, StaleEpoch) != alarm || !slices.Equal(snap.alarms, st.Alarms) {
				t.Errorf("%s: alarms %v, %v, %v, %v", what, st.Alarms, snap.alarms, err, err2)
			}
		}
		is("booted", true, "w-1", "w-2")
		if err := a.Admit(ctx, set(2, born, "w-2", "w-3")); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("a stale epoch with a new peer: %v", err)
		}
		is("a stale epoch", true, "w-2")
		must(a.Admit(ctx, set(3, time.Now(), "w-2", "w-3")))
		is("a fresh epoch", false, "w-2", "w-3")
		woken := a.changed()
		time.Sleep(EpochLife)
		synctest.Wait()
		select {
		case <-woken:
		default:
			t.Error("nobody is told of the alarm")
		}
		is("a day later", true, "w-2", "w-3")
		must(a.Admit(ctx, set(3, time.Now(), "w-2", "w-3")))
		is("said again", false, "w-2", "w-3")
		loaded, err := a.deps.Dir.Load()
		if err != nil || time.Since(loaded.Credentials.At) > time.Hour {
			t.Errorf("stored as of %s, %v", loaded.Credentials.At, err)
		}
	})
}
