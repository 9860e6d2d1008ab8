package controller

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

func TestWindows(t *testing.T) {
	night := []Window{{Days: []string{"mon", "fri"}, From: "22:00", To: "05:00"}}
	at := func(s string) time.Time {
		x, err := time.ParseInLocation("2006-01-02 15:04", s, cityTime)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, c := range []struct {
		now, opens string // opens empty: open now
	}{
		{"2026-11-30 21:59", "2026-11-30 22:00"}, // a Monday
		{"2026-11-30 22:00", ""},
		{"2026-12-01 04:59", ""}, // since yesterday
		{"2026-12-01 05:00", "2026-12-04 22:00"},
		{"2026-12-05 04:00", ""},
		{"2026-12-05 06:00", "2026-12-07 22:00"},
	} {
		opens, open := openAt(night, at(c.now))
		if open != (c.opens == "") || !open && !opens.Equal(at(c.opens)) {
			t.Errorf("at %s: %v, opens %s", c.now, open, opens)
		}
	}
	if _, open := openAt(nil, at("2026-11-30 12:00")); !open {
		t.Error("no windows must mean always")
	}
	if _, open := openAt([]Window{{From: "08:00", To: "08:00"}}, at("2026-11-30 03:00")); !open {
		t.Error("equal times must mean the whole day")
	}
	err := checkWindows([]Window{{From: "22", To: "5:00"}, {Days: []string{"monday"}, From: "22:00", To: "05:00"}})
	if !errors.Is(err, inventory.ErrInvalid) || strings.Count(err.Error(), "windows[") != 2 {
		t.Errorf("faults: %v", err)
	}
}

// What openAt says comes next is open then and was not just before.
func TestWindowsOpenWhenTheySay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := Window{
			From: rapid.SampledFrom([]string{"00:00", "05:30", "12:00", "22:00"}).Draw(t, "from"),
			To:   rapid.SampledFrom([]string{"00:00", "05:00", "13:00", "23:59"}).Draw(t, "to"),
			Days: rapid.SliceOfDistinct(rapid.SampledFrom(weekdays), rapid.ID[string]).Draw(t, "days"),
		}
		now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 14*24*60).Draw(t, "minute")) * time.Minute)
		opens, open := openAt([]Window{w}, now)
		if open {
			return
		}
		if _, then := openAt([]Window{w}, opens); !then || !opens.After(now) {
			t.Fatalf("%+v at %s says it opens at %s", w, now, opens)
		}
		if _, before := openAt([]Window{w}, opens.Add(-time.Minute)); before {
			t.Fatalf("%+v was open a minute before %s", w, opens)
		}
	})
}

func TestAWaveWaitsForItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight UTC, 07:00 in the city
		w := newWorld(t, town(3))
		l := w.start(Config{Windows: []Window{{From: "09:00", To: "10:00"}}})
		defer l.end()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		r := l.Controller.Rollouts()[0]
		if done, _ := r.Progress(); done != 0 || r.State != RolloutRunning || !strings.HasPrefix(r.Reason, waitsForWindow) {
			t.Fatalf("before the window: %+v", r)
		}
		time.Sleep(time.Hour + 10*time.Minute)
		if r := l.wait(1, time.Minute, RolloutDone); strings.Contains(r.Reason, "window") {
			t.Errorf("the reason stays: %q", r.Reason)
		}
	})
}

func TestUrgentDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, town(3))
		l := w.start(Config{Windows: []Window{{From: "09:00", To: "10:00"}}})
		defer l.end()
		if _, err := l.StartUrgent(t.Context(), 1, "lan", ""); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("urgent without a reason: %v", err)
		}
		if _, err := l.StartUrgent(t.Context(), 1, "lan", "an attack is under way"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, 5*time.Minute, RolloutDone)
	})
}
