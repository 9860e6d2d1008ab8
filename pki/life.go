package pki

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Rules for a device that comes back after the end of its certificate.
const (
	// RecoverGrace is how long after the end it renews as if nothing had been;
	// and how much time it may have let pass unused since its renewal was due.
	RecoverGrace = 48 * time.Hour
	// RecoverLimit is how long after the end it renews at all, unless the
	// controller itself was away.
	RecoverLimit = 90 * 24 * time.Hour
)

// LatestRenewal is when a healthy device has renewed at the latest: at two
// thirds of the life and a twelfth of jitter, see [enrol.Next].
func LatestRenewal(notBefore, notAfter time.Time) time.Time {
	return notBefore.Add(notAfter.Sub(notBefore) * 3 / 4)
}

// Return is how a device stands that comes back.
type Return struct {
	// Quarantine is why it goes into quarantine; empty: it does not.
	Quarantine string
	// Refused is why it must be enrolled anew; empty: it renews.
	Refused string
}

// JudgeReturn applies the rules to a certificate that has ended by now. up is
// when certificates could be had, see [Available].
func JudgeReturn(now, notBefore, notAfter time.Time, up []Stretch) Return {
	due, late := LatestRenewal(notBefore, notAfter), now.Sub(notAfter)
	switch {
	case late <= RecoverGrace:
		return Return{}
	case Available(up, due, now) <= RecoverGrace:
		return Return{} // we were away, not the device
	case late > RecoverLimit:
		return Return{Refused: fmt.Sprintf("its certificate ended %s ago, more than %s; enrol the device again with a new token", days(late), days(RecoverLimit))}
	}
	return Return{Quarantine: fmt.Sprintf("its certificate ended on %s and was not renewed within %d hours, although the controller could be reached", notAfter.UTC().Format(time.DateOnly), int(RecoverGrace.Hours()))}
}

// Available is how much of the time from a to b certificates could be had, by
// the stretches kept. Of the time before the first stretch nothing is known:
// it counts as available, which excuses nobody.
func Available(up []Stretch, a, b time.Time) time.Duration {
	if !a.Before(b) {
		return 0
	}
	if len(up) == 0 {
		return b.Sub(a)
	}
	up = slices.SortedFunc(slices.Values(up), func(x, y Stretch) int { return cmp.Compare(x.From.UnixNano(), y.From.UnixNano()) })
	var sum time.Duration
	at := a // everything before is counted
	if first := up[0].From; at.Before(first) {
		end := earlier(first, b)
		sum, at = end.Sub(at), end
	}
	for _, s := range up {
		from, until := later(s.From, at), earlier(s.Until, b)
		if from.Before(until) {
			sum, at = sum+until.Sub(from), until
		}
	}
	return sum
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// days writes a long time for people.
func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
