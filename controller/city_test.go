package controller_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge/fake"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/inventory/sample"
)

// The whole city in real time, on a real store: what the controller itself
// costs must leave room for the network in the minute a push may take.
func TestCityRolloutOnSQLite(t *testing.T) {
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "wardnet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	city := sample.City()
	revs := store.NewRevisions(db, city.Org)
	rev := intent.Revision{Number: 1, Org: city.Org, Author: "lan", At: time.Now().UTC(), Content: city}
	if rev.Hash, err = intent.ContentHash(rev); err != nil {
		t.Fatal(err)
	}
	if err := revs.Append(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	devices := map[inventory.DeviceID]*fake.Device{}
	for _, d := range city.Devices {
		devices[d.ID] = fake.New(d.ID, map[string]crypto.PublicKey{"k": key.Public()})
	}
	c, err := controller.New(controller.Deps{
		Store: store.NewController(db, city.Org), Revisions: revs, Approvals: revs, Signer: key, KeyID: "k", Log: slog.New(slog.DiscardHandler),
		Dial: func(_ context.Context, id inventory.DeviceID) (controller.Driver, error) { return devices[id], nil },
		Return: func(context.Context, intent.Number, intent.Number, string) (intent.Number, error) {
			return 0, errors.New("nothing should be returned")
		},
	}, controller.Config{NoApproval: true})
	if err != nil {
		t.Fatal(err)
	}
	c.SetDevices(city.Devices)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan controller.Rollout, 1)
	c.Subscribe(func(ev controller.Event) {
		if ev.Rollout != nil && !ev.Rollout.Open() {
			done <- *ev.Rollout
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	start := time.Now()
	if _, err := c.StartRollout(ctx, 1, "lan"); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-done:
		t.Logf("%s after %s", r.State, time.Since(start).Round(time.Millisecond))
		for _, w := range r.Waves {
			t.Logf("%-12s %3d devices %s", w.Name, len(w.Devices), w.Ended.Sub(w.Started).Round(time.Millisecond))
		}
		if n, total := r.Progress(); r.State != controller.RolloutDone || n != 208 || total != 208 {
			t.Errorf("%s with %d of %d: %s", r.State, n, total, r.Reason)
		}
	case <-time.After(30 * time.Second):
		t.Error("not done after 30 s; the controller's own share of the minute is a few")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v", err)
	}
}
