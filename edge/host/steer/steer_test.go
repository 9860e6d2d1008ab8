package steer

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
)

var (
	t0    = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	voice = edge.Class{Name: "voice", LossRatio: 0.01, LatencyMS: 60, JitterMS: 30}
	bulk  = edge.Class{Name: "bulk", LossRatio: 0.2, LatencyMS: 500, JitterMS: 400}
)

func fine() Quality            { return Quality{Sent: 50, LatencyMS: 10, JitterMS: 2} }
func lossy(lost int) Quality   { return Quality{Sent: 50, Lost: lost, LatencyMS: 10, JitterMS: 2} }
func slow(ms float64) Quality  { return Quality{Sent: 50, LatencyMS: ms, JitterMS: 2} }
func jumpy(ms float64) Quality { return Quality{Sent: 50, LatencyMS: 10, JitterMS: ms} }
func path(n string, pref int, q Quality) Path {
	return Path{Tunnel: n, Group: "hub-1", Preference: pref, Up: true, Quality: q}
}

// story drives a chooser second by second and says when voice moved.
type story struct {
	*testing.T
	c    *Chooser
	now  time.Time
	a, b Path
}

func newStory(t *testing.T) *story {
	return &story{T: t, c: New([]edge.Class{voice, bulk}), now: t0, a: path("a", 200, fine()), b: path("b", 100, fine())}
}

// until runs until voice uses want and returns how long that took; it fails
// after limit.
func (s *story) until(want string, limit time.Duration) time.Duration {
	s.Helper()
	for start := s.now; s.now.Sub(start) <= limit; s.now = s.now.Add(100 * time.Millisecond) {
		got := s.c.Choose(s.now, []Path{s.b, s.a})
		if len(got) == 2 && got[0].Tunnel == want {
			return s.now.Sub(start)
		}
	}
	s.Fatalf("voice does not use %s within %s", want, limit)
	return 0
}

// stays runs for d and fails when voice leaves want.
func (s *story) stays(want string, d time.Duration) {
	s.Helper()
	for start := s.now; s.now.Sub(start) < d; s.now = s.now.Add(100 * time.Millisecond) {
		if got := s.c.Choose(s.now, []Path{s.a, s.b}); got[0].Tunnel != want {
			s.Fatalf("after %s voice uses %s (%s), want %s", s.now.Sub(start), got[0].Tunnel, got[0].Why, want)
		}
	}
}

func TestLeavesAndReturns(t *testing.T) {
	for name, tt := range map[string]struct {
		q   Quality
		why string
	}{
		"loss":    {lossy(3), "loss 6.0 % is over 1.0 %"},
		"latency": {slow(130), "latency 65 ms is over 60 ms"},
		"jitter":  {jumpy(31), "jitter 31 ms is over 30 ms"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			s.until("a", 0)
			s.stays("a", 15*time.Second)
			s.a.Quality = tt.q
			if took := s.until("b", 5*time.Second); took != Patience {
				t.Errorf("left after %s, want %s", took, Patience)
			}
			got := s.c.Choose(s.now, []Path{s.a, s.b})
			if !strings.Contains(got[0].Why, tt.why) {
				t.Errorf("why = %q, want %q", got[0].Why, tt.why)
			}
			if got[1].Class != "bulk" || got[1].Tunnel != "a" {
				t.Errorf("bulk = %+v, want it to stay on a", got[1])
			}
			s.a.Quality = slow(98) // 49 ms one way: kept, but not by the margin
			s.stays("b", 40*time.Second)
			s.a.Quality = fine()
			if took := s.until("a", 40*time.Second); took != Probation {
				t.Errorf("returned after %s, want %s", took, Probation)
			}
		})
	}
}

// A path has been losing since its first lost probe, not since that was told
// from chance.
func TestLossCountsFromItsBeginning(t *testing.T) {
	s := newStory(t)
	s.until("a", 0)
	s.stays("a", 15*time.Second)
	s.a.Quality = lossy(3)
	s.a.LostSince = s.now.Add(-2 * time.Second)
	if took := s.until("b", 5*time.Second); took > Patience-2*time.Second+500*time.Millisecond {
		t.Errorf("left %s after two seconds of loss were seen, want %s in all", took, Patience)
	}
	s = newStory(t)
	s.until("a", 0)
	s.stays("a", 15*time.Second)
	s.a.Quality = slow(130) // latency is not loss
	s.a.LostSince = s.now.Add(-2 * time.Second)
	if took := s.until("b", 5*time.Second); took != Patience {
		t.Errorf("left after %s for its latency, want %s", took, Patience)
	}
}

func TestShortTroubleIsLivedThrough(t *testing.T) {
	s := newStory(t)
	s.stays("a", 15*time.Second)
	for range 10 {
		s.a.Quality = lossy(10)
		s.stays("a", 2900*time.Millisecond)
		s.a.Quality = fine()
		s.stays("a", 200*time.Millisecond)
	}
	s.a.Quality = lossy(1) // one probe of a short window proves nothing
	s.stays("a", time.Minute)
}

func TestDeadPathIsLeftAtOnce(t *testing.T) {
	s := newStory(t)
	s.until("a", 0)
	s.a.Up = false
	if took := s.until("b", time.Second); took != 0 {
		t.Errorf("left a path that is down after %s", took)
	}
	s.a.Up = true
	s.stays("b", Probation)
	s.until("a", time.Second)
	s.a.Quality = Quality{Sent: 50, Lost: 50}
	if took := s.until("b", 5*time.Second); took != Blackout {
		t.Errorf("left a silent path after %s, want %s", took, Blackout)
	}
	s.b.Quality = s.a.Quality // now all are silent: any is as good
	s.stays("b", 20*time.Second)
	s.a.Up, s.b.Up = false, false
	if got := s.c.Choose(s.now, []Path{s.a, s.b}); len(got) != 0 {
		t.Errorf("chose %+v with nothing up", got)
	}
}

func TestAllBadTakesTheLeastBad(t *testing.T) {
	s := newStory(t)
	s.a.Quality, s.b.Quality = slow(200), slow(190)
	s.until("b", 0)
	s.stays("b", time.Minute) // a is preferred, and no better
	s.a.Quality = slow(160)
	s.stays("b", time.Minute) // better, but not by the margin
	s.a.Quality = slow(150)
	s.until("a", 0)
}

func TestUnmeasuredPathsFollowPreference(t *testing.T) {
	s := newStory(t)
	s.a.Quality, s.b.Quality = Quality{}, Quality{}
	s.until("a", 0)
	s.stays("a", time.Minute)
}

// random is a random course of one group of four paths, in ticks.
func random(r *rapid.T) [][]Path {
	names := []string{"a", "b", "c", "d"}
	prefs := rapid.SliceOfN(rapid.IntRange(1, 3), 4, 4).Draw(r, "preferences")
	cur := make([]Path, len(names))
	for i, n := range names {
		cur[i] = path(n, prefs[i]*100, fine())
	}
	var course [][]Path
	for range rapid.IntRange(1, 12).Draw(r, "changes") {
		i := rapid.IntRange(0, 3).Draw(r, "path")
		cur[i].Up = rapid.SampledFrom([]bool{true, true, true, false}).Draw(r, "up")
		cur[i].Quality = rapid.SampledFrom([]Quality{fine(), fine(), {}, lossy(1), lossy(2), lossy(20), lossy(50), slow(100), slow(150), slow(300), jumpy(25), jumpy(90)}).Draw(r, "quality")
		for range rapid.SampledFrom([]int{1, 2, 4, 8, 40, 80}).Draw(r, "ticks") {
			course = append(course, slices.Clone(cur))
		}
	}
	return course
}

const tick = 500 * time.Millisecond

func TestProperties(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		course := random(r)
		one, two := New([]edge.Class{voice, bulk}), New([]edge.Class{voice, bulk})
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 0))
		last := map[string]Choice{}
		for i, paths := range course {
			now := t0.Add(time.Duration(i) * tick)
			got := one.Choose(now, paths)
			mixed := slices.Clone(paths)
			rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
			if other := two.Choose(now, mixed); !reflect.DeepEqual(got, other) {
				r.Fatalf("%s: %+v, in another order %+v", now, got, other)
			}
			at := map[string]Path{}
			live := false
			for _, p := range paths {
				at[p.Tunnel] = p
				live = live || p.Up
			}
			if live != (len(got) == 2) {
				r.Fatalf("%s: a path is up: %v; choices %+v", now, live, got)
			}
			for _, c := range got {
				if !at[c.Tunnel].Up {
					r.Fatalf("%s: %s uses %s, which is down", now, c.Class, c.Tunnel)
				}
				old, had := last[c.Class]
				was := at[old.Tunnel]
				dead := !was.Up || was.Sent > 0 && was.Sent == was.Lost
				if had && old.Tunnel != c.Tunnel && !dead && now.Sub(old.Since) < Hold {
					r.Fatalf("%s: %s moved from %s to %s after %s (%s)", now, c.Class, old.Tunnel, c.Tunnel, now.Sub(old.Since), c.Why)
				}
				if had && old.Tunnel == c.Tunnel && old != c {
					r.Fatalf("%s: %+v became %+v without a move", now, old, c)
				}
				last[c.Class] = c
			}
			if !live {
				last = map[string]Choice{}
			}
		}
	})
}

// TestTwin compares with a twin that has no memory but the whole past: at every
// step it goes back through all of it.
func TestTwin(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		course := random(r)
		c := New([]edge.Class{voice})
		var choices []string // by tick; empty: none
		for i, paths := range course {
			got, want := "", twin(course[:i+1], choices)
			if out := c.Choose(t0.Add(time.Duration(i)*tick), paths); len(out) == 1 {
				got = out[0].Tunnel
			}
			if got != want {
				r.Fatalf("tick %d: chose %q, the twin %q; so far %v\n%s", i, got, want, choices, show(paths))
			}
			choices = append(choices, got)
		}
	})
}

func show(paths []Path) string {
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "%s pref %d up %v %+v\n", p.Tunnel, p.Preference, p.Up, p.Quality)
	}
	return b.String()
}

// twin is what the rules say, read literally.
func twin(past [][]Path, choices []string) string {
	now := past[len(past)-1]
	// lasted says whether is has been true of the tunnel for d up to now.
	lasted := func(tunnel string, d time.Duration, is func(Path) bool) bool {
		for k := 0; k <= int(d/tick); k++ {
			i := len(past) - 1 - k
			if i < 0 || !is(find(past[i], tunnel)) {
				return false
			}
		}
		return true
	}
	bad := func(p Path) bool { return p.Up && violates(voice, p.Quality, 1) != "" }
	silent := func(p Path) bool { return p.Up && p.Sent > 0 && p.Lost == p.Sent }
	var usable, up []Path
	for _, p := range now {
		if p.Up {
			up = append(up, p)
			if !lasted(p.Tunnel, Blackout, silent) {
				usable = append(usable, p)
			}
		}
	}
	if len(usable) == 0 {
		usable = up
	}
	if len(usable) == 0 {
		return ""
	}
	better := func(a, b Path) bool { // a before b
		if bad(a) != bad(b) {
			return bad(b)
		}
		if sa, sb := score(voice, a.Quality), score(voice, b.Quality); bad(a) && sa != sb {
			return sa < sb
		}
		if a.Preference != b.Preference {
			return a.Preference > b.Preference
		}
		return a.Tunnel < b.Tunnel
	}
	best := usable[0]
	for _, p := range usable[1:] {
		if better(p, best) {
			best = p
		}
	}
	old, since := "", 0 // ticks on the same tunnel
	if len(choices) > 0 {
		old = choices[len(choices)-1]
		for since < len(choices) && choices[len(choices)-1-since] == old {
			since++
		}
	}
	cur := find(usable, old)
	if old == "" || cur.Tunnel == "" {
		return best.Tunnel
	}
	if time.Duration(since)*tick < Hold {
		return old
	}
	if lasted(old, Patience, bad) {
		if !bad(best) || score(voice, best.Quality) < Margin*score(voice, cur.Quality) {
			return best.Tunnel
		}
		return old
	}
	to := cur
	for _, p := range usable {
		if p.Preference > cur.Preference && (to.Tunnel == old || p.Preference > to.Preference || p.Preference == to.Preference && p.Tunnel < to.Tunnel) &&
			lasted(p.Tunnel, Probation, func(p Path) bool { return p.Up && violates(voice, p.Quality, Margin) == "" }) {
			to = p
		}
	}
	return to.Tunnel
}

func find(paths []Path, tunnel string) Path {
	for _, p := range paths {
		if p.Tunnel == tunnel {
			return p
		}
	}
	return Path{}
}
