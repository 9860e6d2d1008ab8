package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Window is a weekly time in which waves may start, in the city's time
// (Asia/Ho_Chi_Minh). To before From means over midnight; equal: the whole day.
type Window struct {
	Days []string `yaml:"days" json:"days"` // on which it begins: mon, tue, … ; empty: every day
	From string   `yaml:"from" json:"from"` // 22:00
	To   string   `yaml:"to" json:"to"`     // 05:00
}

// cityTime is where windows are told; there is no daylight saving since 1975.
var cityTime = time.FixedZone("+07", 7*3600)

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// parse gives the window's times since midnight, or all its faults.
func (w Window) parse() (from, to time.Duration, err error) {
	var faults []error
	clock := func(field, text string) time.Duration {
		t, err := time.Parse("15:04", text)
		if err != nil {
			faults = append(faults, fmt.Errorf("%w: %s %q: want hours and minutes, as 22:00", inventory.ErrInvalid, field, text))
		}
		return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	from, to = clock("from", w.From), clock("to", w.To)
	for _, d := range w.Days {
		if !slices.Contains(weekdays, d) {
			faults = append(faults, fmt.Errorf("%w: day %q: want one of %s", inventory.ErrInvalid, d, strings.Join(weekdays, ", ")))
		}
	}
	return from, to, errors.Join(faults...)
}

// begins says whether the window begins on a day of the week.
func (w Window) begins(day time.Weekday) bool {
	return len(w.Days) == 0 || slices.Contains(w.Days, weekdays[day])
}

// openAt says whether one of the windows is open at now; else when the next one
// opens. No windows: always. The windows are valid.
func openAt(windows []Window, now time.Time) (opens time.Time, open bool) {
	if len(windows) == 0 {
		return now, true
	}
	local := now.In(cityTime)
	midnight := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, cityTime)
	for day := -1; day <= 7; day++ { // one that began yesterday may last until today
		base := midnight.AddDate(0, 0, day)
		for _, w := range windows {
			if !w.begins(base.Weekday()) {
				continue
			}
			from, to, err := w.parse()
			if err != nil {
				continue
			}
			if to <= from {
				to += 24 * time.Hour
			}
			start, end := base.Add(from), base.Add(to)
			switch {
			case !now.Before(start) && now.Before(end):
				return now, true
			case now.Before(start) && (opens.IsZero() || start.Before(opens)):
				opens = start
			}
		}
	}
	return opens, false
}

// checkWindows lists what is wrong with windows.
func checkWindows(windows []Window) error {
	var faults []error
	for i, w := range windows {
		if _, _, err := w.parse(); err != nil {
			faults = append(faults, fmt.Errorf("windows[%d]: %w", i, err))
		}
	}
	return errors.Join(faults...)
}

const waitsForWindow = "waits for the maintenance window"

// outside says why a wave of r may not start at now; empty: it may. A return
// never waits, and neither does what a person called urgent.
func (c *Controller) outside(r Rollout, now time.Time) string {
	if r.Returns != "" || r.Urgent != "" {
		return ""
	}
	opens, open := openAt(c.cfg.Windows, now)
	if open {
		return ""
	}
	return waitsForWindow + ", which opens at " + opens.UTC().Format(time.RFC3339) + "; 'wardnet apply --urgent WHY' does not wait"
}
