package store

import (
	"crypto/sha256"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/wardnet/wardnet/controller/upgrade"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

// A rollout and its devices are written in one step and read as they were
// written; another organisation sees nothing of it.
func TestAgentRollouts(t *testing.T) {
	at := time.Date(2026, 11, 22, 5, 0, 0, 7, time.UTC)
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s, ctx := NewAgents(open(t), "hcmc"), t.Context()
			r := upgrade.Rollout{
				ID: "r1", Version: "1.2", Author: "lan", State: upgrade.Running, Started: at, Deadline: at.Add(time.Hour),
				Waves: []upgrade.Wave{{Name: "wards-1", Devices: []inventory.DeviceID{"e-1", "e-2"}, State: upgrade.WaveRunning, Started: at}},
			}
			rows := []upgrade.Device{
				{Device: "e-1", Phase: upgrade.Trying, Commit: "c-1", From: "1.1", Before: upgrade.Health{InSync: true, Up: []string{"a", "b"}}, Tried: at},
				{Device: "e-2", Hub: true, Phase: upgrade.Waiting},
			}
			if err := s.Save(ctx, r, rows...); err != nil {
				t.Fatal(err)
			}
			got, devices, err := s.Rollouts(ctx)
			if err != nil || !reflect.DeepEqual(got, []upgrade.Rollout{r}) || !reflect.DeepEqual(devices["r1"], rows) {
				t.Fatalf("read %+v, %+v, %v", got, devices, err)
			}
			r.State, r.Reason, r.Ended = upgrade.Halted, "e-1: nul \x00 and đ", at.Add(time.Minute)
			rows[0].Phase, rows[0].Error, rows[0].Ended = upgrade.Failed, r.Reason, at
			if err := s.Save(ctx, r, rows[0]); err != nil {
				t.Fatal(err)
			}
			got, devices, err = s.Rollouts(ctx)
			if err != nil || got[0].State != upgrade.Halted || len(devices["r1"]) != 2 || devices["r1"][0].Phase != upgrade.Failed || !reflect.DeepEqual(devices["r1"][1], rows[1]) {
				t.Fatalf("read %+v, %+v, %v", got, devices, err)
			}
			if got, devices, err := NewAgents(s.db, "hanoi").Rollouts(ctx); err != nil || len(got)+len(devices) != 0 {
				t.Errorf("another organisation reads %+v, %+v, %v", got, devices, err)
			}
		})
	}
}

// A version and platform stand for one binary for ever; the same one again may
// be signed anew.
func TestAgentReleases(t *testing.T) {
	binary := func(version, goarch, content string, second int) upgrade.Binary {
		sum := sha256.Sum256([]byte(content))
		return upgrade.Binary{
			Release: release.Release{Version: version, GOOS: "linux", GOARCH: goarch, Size: int64(len(content)), SHA256: sum[:], KeyID: "k", Signature: []byte{1, 0, 255}},
			Added:   time.Date(2026, 11, 22, 5, 0, second, 0, time.UTC), By: "lan",
		}
	}
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s, ctx := NewAgents(open(t), "hcmc"), t.Context()
			old, arm, young := binary("1.1", "amd64", "x", 1), binary("1.1", "arm64", "y", 2), binary("1.2", "amd64", "z", 3)
			for _, b := range []upgrade.Binary{old, arm, young, old} {
				if err := s.AddBinary(ctx, b); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.AddBinary(ctx, binary("1.1", "amd64", "other", 4)); !errors.Is(err, inventory.ErrConflict) {
				t.Errorf("another binary of the same version: %v", err)
			}
			old.KeyID, old.Signature = "k2", []byte{2}
			if err := s.AddBinary(ctx, old); err != nil {
				t.Fatal(err)
			}
			got, err := s.Binaries(ctx)
			if err != nil || !reflect.DeepEqual(got, []upgrade.Binary{young, arm, old}) {
				t.Errorf("read %+v, %v", got, err)
			}
			if got, err := NewAgents(s.db, "hanoi").Binaries(ctx); err != nil || len(got) != 0 {
				t.Errorf("another organisation reads %+v, %v", got, err)
			}
		})
	}
}
