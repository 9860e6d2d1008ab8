package upgrade

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

func TestActivateRefuses(t *testing.T) {
	f := newFactory(t)
	now := time.Now()
	j := Journal{
		Current: slotA, Kept: []string{"old"}, Failed: &Failure{Commit: "bad"},
		Slots: map[string]Slot{
			slotA: {Release: f.release(t, "2", content("2")), Installed: true, Confirmed: true},
			slotB: {Release: f.release(t, "3", content("3")), Installed: true},
		},
	}
	good := Try{Commit: "c", Version: "3", Revert: time.Minute}
	next, err := j.activate(good, "2", now)
	if err != nil || next.Try == nil || next.Try.Slot != slotB || j.Try != nil {
		t.Fatalf("%+v, %v", next.Try, err)
	}
	if again, err := next.activate(good, "2", now); err != nil || again.Try != next.Try {
		t.Errorf("repeated: %v", err)
	}
	for name, tt := range map[string]struct {
		j    Journal
		try  Try
		want error
	}{
		"no id":       {j, Try{Version: "3", Revert: time.Minute}, inventory.ErrInvalid},
		"too short":   {j, Try{Commit: "c", Version: "3", Revert: MinRevert - 1}, inventory.ErrInvalid},
		"too long":    {j, Try{Commit: "c", Version: "3", Revert: MaxRevert + 1}, inventory.ErrInvalid},
		"runs":        {j, Try{Commit: "c", Version: "2", Revert: time.Minute}, ErrRefused},
		"not here":    {j, Try{Commit: "c", Version: "9", Revert: time.Minute}, ErrRefused},
		"used before": {j, Try{Commit: "old", Version: "3", Revert: time.Minute}, ErrRefused},
		"failed":      {j, Try{Commit: "bad", Version: "3", Revert: time.Minute}, ErrRefused},
		"in flight":   {next, Try{Commit: "d", Version: "3", Revert: time.Minute}, ErrBusy},
	} {
		if _, err := tt.j.activate(tt.try, "2", now); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if _, err := next.confirm("c", []string{"bfd/x"}); !errors.Is(err, ErrNotYet) || !strings.Contains(err.Error(), "bfd/x") {
		t.Errorf("confirmed while bfd/x fails: %v", err)
	}
	kept, err := next.confirm("c", nil)
	if err != nil || kept.Current != slotB || kept.Previous != slotA || kept.Try != nil || !kept.Slots[slotB].Confirmed {
		t.Fatalf("%+v, %v", kept, err)
	}
	if again, err := kept.confirm("c", nil); err != nil || again.Current != slotB {
		t.Errorf("confirmed again: %v", err)
	}
	if _, err := j.confirm("bad", nil); !errors.Is(err, ErrRefused) {
		t.Errorf("a failed commit was confirmed: %v", err)
	}
	if back := kept.spoiled("rust", now); back.Current != slotA || back.Failed.Why != "rust" || back.Slots[slotB].Installed {
		t.Errorf("after damage: %+v", back)
	}
}

// TestJudge: a version on trial has to hold what held, and to be confirmed.
func TestJudge(t *testing.T) {
	t0 := time.Now()
	for name, tt := range map[string]struct {
		revert  time.Duration
		failing []string      // from the first second on
		heals   time.Duration // when nothing fails any more; 0: never
		breaks  time.Duration // when everything fails again; 0: never
		want    string
		at      time.Duration
	}{
		"never confirmed":     {revert: time.Minute, want: "no Confirm arrived within 1m0s", at: time.Minute},
		"channel never came":  {revert: time.Minute, failing: []string{"channel"}, want: "held before and do not now: channel", at: time.Minute},
		"never healthy":       {revert: 2 * time.Minute, failing: []string{"bfd/x", "channel"}, want: "failed for 30s: bfd/x", at: 30 * time.Second},
		"slow to see":         {revert: 2 * time.Minute, failing: []string{"bfd/x"}, heals: 25 * time.Second, want: "no Confirm", at: 2 * time.Minute},
		"breaks later":        {revert: 2 * time.Minute, failing: []string{"bfd/x"}, heals: time.Second, breaks: 50 * time.Second, want: "failed for 10s", at: 59 * time.Second},
		"short time, no item": {revert: 10 * time.Second, failing: []string{"dns/10.0.0.1"}, want: "failed for 5s", at: 5 * time.Second},
	} {
		c := &child{try: Try{Revert: tt.revert}, started: t0, good: t0}
		for at := time.Second; ; at += time.Second {
			failing := tt.failing
			if tt.heals > 0 && at >= tt.heals && (tt.breaks == 0 || at < tt.breaks) {
				failing = nil
			}
			why := c.judge(failing, t0.Add(at))
			if why == "" && at < 5*time.Minute {
				continue
			}
			if !strings.Contains(why, tt.want) || at != tt.at {
				t.Errorf("%s: %q after %s; want %q after %s", name, why, at, tt.want, tt.at)
			}
			break
		}
	}
}
