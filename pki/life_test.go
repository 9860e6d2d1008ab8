package pki_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

const day = 24 * time.Hour

// A certificate of 7 days, issued at the epoch of the test.
var born = time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)

func TestJudgeReturn(t *testing.T) {
	end := born.Add(7 * day)
	always := []pki.Stretch{{From: born.Add(-300 * day), Until: born.Add(400 * day)}}
	for name, tt := range map[string]struct {
		late time.Duration
		up   []pki.Stretch
		want string
	}{
		"an hour late":                           {time.Hour, always, "free"},
		"48 hours late":                          {48 * time.Hour, always, "free"},
		"a minute over":                          {48*time.Hour + time.Minute, always, "quarantine"},
		"60 days late":                           {60 * day, always, "quarantine"},
		"90 days late":                           {90 * day, always, "quarantine"},
		"91 days late":                           {91 * day, always, "refused"},
		"the controller was away all the time":   {6 * day, []pki.Stretch{{From: born.Add(-day), Until: born.Add(4 * day)}}, "free"},
		"and for very long":                      {200 * day, []pki.Stretch{{From: born.Add(-day), Until: born.Add(5 * day)}}, "free"},
		"it was away, but back for two days":     {6 * day, []pki.Stretch{{From: born.Add(-day), Until: born.Add(4 * day)}, {From: end.Add(4*day - time.Minute), Until: end.Add(6 * day)}}, "quarantine"},
		"it went away after the device was late": {30 * day, []pki.Stretch{{From: born.Add(-day), Until: end.Add(day)}}, "quarantine"},
		"nothing is known of the time before":    {6 * day, []pki.Stretch{{From: end.Add(6 * day), Until: end.Add(6 * day)}}, "quarantine"},
		"nothing is known at all":                {6 * day, nil, "quarantine"},
	} {
		got, verdict := pki.JudgeReturn(end.Add(tt.late), born, end, tt.up), "free"
		switch {
		case got.Refused != "":
			verdict = "refused"
		case got.Quarantine != "":
			verdict = "quarantine"
		}
		if verdict != tt.want {
			t.Errorf("%s: %s (%+v), want %s", name, verdict, got, tt.want)
		}
	}
}

// Available equals a count of minutes, one by one.
func TestAvailableEqualsTheCount(t *testing.T) {
	at := func(minute int) time.Time { return born.Add(time.Duration(minute) * time.Minute) }
	rapid.Check(t, func(rt *rapid.T) {
		var up []pki.Stretch
		for range rapid.IntRange(0, 6).Draw(rt, "stretches") {
			from := rapid.IntRange(0, 300).Draw(rt, "from")
			up = append(up, pki.Stretch{From: at(from), Until: at(from + rapid.IntRange(0, 90).Draw(rt, "for"))})
		}
		a, b := rapid.IntRange(0, 400).Draw(rt, "a"), rapid.IntRange(0, 400).Draw(rt, "b")
		first := 1 << 30
		for _, s := range up {
			first = min(first, int(s.From.Sub(born).Minutes()))
		}
		want := 0
		for m := a; m < b; m++ {
			if m < first || slices.ContainsFunc(up, func(s pki.Stretch) bool { return !at(m).Before(s.From) && at(m).Before(s.Until) }) {
				want++
			}
		}
		if got := pki.Available(up, at(a), at(b)); got != time.Duration(want)*time.Minute {
			rt.Fatalf("%v from %d to %d: %s, counted %d min", up, a, b, got, want)
		}
	})
}

// Every stage of every device that falls into the time is told once, on the
// day of the city on which it falls, and days are in order.
func TestForecastTellsEveryStageOnce(t *testing.T) {
	zone := time.FixedZone("+07", 7*3600)
	rapid.Check(t, func(rt *rapid.T) {
		var list []pki.Certificate
		for i := range rapid.IntRange(0, 12).Draw(rt, "devices") {
			end := born.Add(time.Duration(rapid.IntRange(-120*24, 60*24).Draw(rt, "ends")) * time.Hour)
			list = append(list, pki.Certificate{Device: inventory.DeviceID(rune('a' + i)), NotAfter: end})
		}
		until := born.Add(time.Duration(rapid.IntRange(1, 100).Draw(rt, "days")) * day)
		seen := map[string]int{}
		last := time.Time{}
		for _, d := range pki.Forecast(list, born, until, zone) {
			if d.Day.Before(last) || len(d.Fates) == 0 || !d.First().Equal(d.Fates[0].At) {
				rt.Fatalf("day %s after %s with %d devices", d.Day, last, len(d.Fates))
			}
			last = d.Day
			for _, f := range d.Fates {
				seen[string(f.Device)+string(f.Stage)]++
				if f.At.In(zone).Format(time.DateOnly) != d.Day.Format(time.DateOnly) || f.At.Before(born) || f.At.After(until) || f.Stage != d.Stage {
					rt.Fatalf("%+v on %s", f, d.Day)
				}
			}
		}
		want := 0
		for _, c := range list {
			for stage, after := range map[pki.Stage]time.Duration{pki.StageEnds: 0, pki.StageQuarantine: pki.RecoverGrace, pki.StageEnrol: pki.RecoverLimit} {
				if at := c.NotAfter.Add(after); !at.Before(born) && !at.After(until) {
					want++
					if seen[string(c.Device)+string(stage)] != 1 {
						rt.Fatalf("%s of %s told %d times", stage, c.Device, seen[string(c.Device)+string(stage)])
					}
				}
			}
		}
		if len(seen) != want {
			rt.Fatalf("%d told, want %d", len(seen), want)
		}
	})
}

func TestFilterTellsAllFaults(t *testing.T) {
	_, err := pki.Filter{Limit: 5000, State: "lost", Serial: "XY", ExpiresFrom: born, ExpiresBefore: born}.Check()
	for _, want := range []string{"limit 5000", `state "lost"`, `serial "XY"`, "nothing can"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %q", err, want)
		}
	}
}
