// Package steer chooses, for each service class, the tunnel to a far site: the
// preferred one as long as its measured loss, latency and jitter keep the
// class's budget, else another, with hysteresis. The choice and the routes
// that follow from it are pure; [Run] is the thin shell around them.
package steer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/wardnet/wardnet/edge"
)

const (
	// Patience is how long a path may violate a class's budget before the
	// class leaves it.
	Patience = 3 * time.Second
	// Blackout is the same where nothing comes back at all.
	Blackout = time.Second
	// Probation is how long a preferred path must keep within Margin of the
	// budget before the class returns to it.
	Probation = 30 * time.Second
	// Margin of the budget, a ratio.
	Margin = 0.8
	// Hold is the least time between two changes of one choice, but for a path
	// that is dead.
	Hold = 10 * time.Second

	// proof is how many lost probes are evidence of loss: over a short window
	// one alone is over every budget.
	proof = 2
)

// Path is one tunnel as it is seen now.
type Path struct {
	Tunnel     string
	Group      string // where it leads: a class chooses among the paths of a group
	Preference int    // higher is better, as routing has it
	Up         bool   // routing may use it
	Quality
}

// Quality is what was measured over a window of about ten seconds.
type Quality struct {
	Sent, Lost int     // probes; with none sent the path is judged by Up alone
	LatencyMS  float64 // round trip, milliseconds
	JitterMS   float64 // peak to peak, milliseconds
	// LostSince is when the first of the lost probes was sent: the path has been
	// losing since then, though it took until now to know. Zero: unknown.
	LostSince time.Time
}

// Choice is the path of one class to one group.
type Choice struct {
	Class, Group, Tunnel string
	Since                time.Time
	Why                  string // for people
}

// Chooser remembers what it saw and chose. It has no clock: time is what
// [Chooser.Choose] is given, and only rises.
type Chooser struct {
	classes []edge.Class
	chosen  map[place]Choice
	seen    map[sight]*memory
}

// place is where a choice is made.
type place struct{ class, group string }

// sight is a path as one class sees it.
type sight struct{ class, tunnel string }

// memory says since when, without a break, a path is what it is; zero: it is
// not.
type memory struct{ bad, silent, good time.Time }

// New chooses for the classes given.
func New(classes []edge.Class) *Chooser {
	return &Chooser{classes: slices.Clone(classes), chosen: map[place]Choice{}, seen: map[sight]*memory{}}
}

// Choose looks at all paths at now and returns the choice of every class in
// every group that has a path up, in the order of classes, then by group.
// Tunnel names are unique; the order of paths does not matter.
func (c *Chooser) Choose(now time.Time, paths []Path) []Choice {
	paths = slices.Clone(paths)
	slices.SortFunc(paths, func(a, b Path) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), -cmp.Compare(a.Preference, b.Preference), cmp.Compare(a.Tunnel, b.Tunnel))
	})
	var out []Choice
	chosen, seen := map[place]Choice{}, map[sight]*memory{}
	for _, class := range c.classes {
		for rest := paths; len(rest) > 0; {
			group := first(rest)
			rest = rest[len(group):]
			v := view{class: class, now: now, paths: group, seen: map[string]*memory{}}
			for _, p := range group {
				key := sight{class.Name, p.Tunnel}
				seen[key] = look(c.seen[key], class, p, now)
				v.seen[p.Tunnel] = seen[key]
			}
			at := place{class.Name, group[0].Group}
			if next, ok := v.choose(c.chosen[at]); ok {
				chosen[at] = next
				out = append(out, next)
			}
		}
	}
	c.chosen, c.seen = chosen, seen
	return out
}

// first is the first group of paths, which are sorted by group.
func first(paths []Path) []Path {
	i := slices.IndexFunc(paths, func(p Path) bool { return p.Group != paths[0].Group })
	if i < 0 {
		return paths
	}
	return paths[:i]
}

// look brings the memory of p up to now.
func look(m *memory, class edge.Class, p Path, now time.Time) *memory {
	var next memory
	if m != nil {
		next = *m
	}
	since := func(t *time.Time, is bool) {
		switch {
		case !is:
			*t = time.Time{}
		case t.IsZero():
			*t = now
		}
	}
	why := violates(class, p.Quality, 1)
	was := next.bad
	since(&next.bad, p.Up && why != "")
	if was.IsZero() && !next.bad.IsZero() && losing(class, p.Quality) && p.LostSince.Before(now) && !p.LostSince.IsZero() {
		next.bad = p.LostSince
	}
	since(&next.silent, p.Up && p.Sent > 0 && p.Lost == p.Sent)
	since(&next.good, p.Up && violates(class, p.Quality, Margin) == "")
	return &next
}

// view is one decision: the paths of one group, best preference first.
type view struct {
	class edge.Class
	now   time.Time
	paths []Path
	seen  map[string]*memory
}

// lasts says whether what began at since has lasted for d.
func (v view) lasts(since time.Time, d time.Duration) bool {
	return !since.IsZero() && v.now.Sub(since) >= d
}

func (v view) bad(p Path) bool { return !v.seen[p.Tunnel].bad.IsZero() }

// choose returns the choice after old; false when no path is up.
func (v view) choose(old Choice) (Choice, bool) {
	live := v.where(v.paths, func(p Path) bool { return p.Up && !v.lasts(v.seen[p.Tunnel].silent, Blackout) })
	if len(live) == 0 { // silent is better than down
		live = v.where(v.paths, func(p Path) bool { return p.Up })
	}
	if len(live) == 0 {
		return Choice{}, false
	}
	i := slices.IndexFunc(live, func(p Path) bool { return p.Tunnel == old.Tunnel })
	switch {
	case old.Tunnel == "":
		return v.take(v.best(live), "first choice"), true
	case i < 0:
		return v.take(v.best(live), old.Tunnel+" is dead"), true
	case v.now.Sub(old.Since) < Hold:
		return old, true
	}
	cur := live[i]
	if v.lasts(v.seen[cur.Tunnel].bad, Patience) {
		b := v.best(live)
		if !v.bad(b) || score(v.class, b.Quality) < Margin*score(v.class, cur.Quality) {
			return v.take(b, cur.Tunnel+": "+violates(v.class, cur.Quality, 1)), true
		}
		return old, true
	}
	for _, p := range live {
		if p.Preference > cur.Preference && v.lasts(v.seen[p.Tunnel].good, Probation) {
			return v.take(p, fmt.Sprintf("preferred, and good for %s", Probation)), true
		}
	}
	return old, true
}

func (v view) where(paths []Path, is func(Path) bool) []Path {
	return slices.DeleteFunc(slices.Clone(paths), func(p Path) bool { return !is(p) })
}

// best is the most preferred of live that keeps the budget; when none does, the
// one that misses it by least.
func (v view) best(live []Path) Path {
	for _, p := range live {
		if !v.bad(p) {
			return p
		}
	}
	return slices.MinFunc(live, func(a, b Path) int {
		return cmp.Compare(score(v.class, a.Quality), score(v.class, b.Quality))
	})
}

func (v view) take(p Path, why string) Choice {
	return Choice{Class: v.class.Name, Group: p.Group, Tunnel: p.Tunnel, Since: v.now, Why: why}
}

// losing says whether q is over the class's budget of loss.
func losing(c edge.Class, q Quality) bool {
	return c.LossRatio > 0 && q.Lost >= proof && float64(q.Lost) > c.LossRatio*float64(q.Sent)
}

// violates says which budget of the class, times share, q is over; empty: none.
// A budget of zero asks nothing.
func violates(c edge.Class, q Quality, share float64) string {
	if q.Sent == 0 {
		return ""
	}
	loss := float64(q.Lost) / float64(q.Sent)
	switch {
	case q.Lost == q.Sent:
		return "nothing comes back"
	case c.LossRatio > 0 && q.Lost >= proof && loss > share*c.LossRatio:
		return fmt.Sprintf("loss %.1f %% is over %.1f %%", 100*loss, 100*c.LossRatio)
	case c.LatencyMS > 0 && q.LatencyMS/2 > share*float64(c.LatencyMS):
		return fmt.Sprintf("latency %.0f ms is over %d ms", q.LatencyMS/2, c.LatencyMS)
	case c.JitterMS > 0 && q.JitterMS > share*float64(c.JitterMS):
		return fmt.Sprintf("jitter %.0f ms is over %d ms", q.JitterMS, c.JitterMS)
	}
	return ""
}

// score is by how much q misses the class's worst-kept budget: 1 is just kept,
// higher is worse.
func score(c edge.Class, q Quality) float64 {
	if q.Sent == 0 {
		return 0
	}
	if q.Lost == q.Sent {
		return math.Inf(1)
	}
	var worst float64
	if c.LossRatio > 0 && q.Lost >= proof {
		worst = max(worst, float64(q.Lost)/float64(q.Sent)/c.LossRatio)
	}
	if c.LatencyMS > 0 {
		worst = max(worst, q.LatencyMS/2/float64(c.LatencyMS))
	}
	if c.JitterMS > 0 {
		worst = max(worst, q.JitterMS/float64(c.JitterMS))
	}
	return worst
}
