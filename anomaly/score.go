package anomaly

import (
	"cmp"
	"math"
	"slices"
)

// Profile weighs a scored corpus as the Numenta Anomaly Benchmark does: what a
// caught window earns and what a false row and a missed window cost.
type Profile struct {
	Name       string
	TP, FP, FN float64
}

// Profiles are the benchmark's three.
var Profiles = []Profile{
	{"standard", 1, 0.11, 1},
	{"reward_low_FP_rate", 1, 0.22, 1},
	{"reward_low_FN_rate", 1, 0.11, 2},
}

// Window is a labelled anomaly: the first and last row in it.
type Window struct{ First, Last int }

// Scored is one series of a corpus with a detector's score of every row; a row
// is positive when its score reaches the threshold.
type Scored struct {
	Name    string
	Scores  []float64
	Windows []Window // sorted, apart from each other
}

// Result is a corpus' score under the best single threshold.
type Result struct {
	Profile   string  `json:"profile"`
	Score     float64 `json:"score"` // 0: says nothing; 100: perfect
	Raw       float64 `json:"raw"`
	Threshold float64 `json:"threshold"` // +Inf: nothing is positive
	Windows   int     `json:"windows"`
	Caught    int     `json:"caught"`
	FalseRows int     `json:"false_rows"`
}

// Probation is the number of leading rows of a series of n that do not count.
func Probation(n int) int { return min(int(0.15*float64(n)), 750) }

// sigmoid is the benchmark's: near 1 far inside a window, 0 at its end, -1 far
// behind it.
func sigmoid(y float64) float64 {
	if y > 3 {
		return -1
	}
	return 2/(1+math.Exp(5*y)) - 1
}

// row is one row that counts.
type row struct {
	score, value float64
	window       int // index over the corpus; -1: outside
}

// sweep values the rows of s that count; window indices begin at first.
func sweep(s Scored, p Profile, first int) []row {
	rows := make([]row, 0, len(s.Scores))
	next := 0 // the window that i is in or before
	for i, score := range s.Scores {
		for next < len(s.Windows) && i > s.Windows[next].Last {
			next++
		}
		if i < Probation(len(s.Scores)) {
			continue
		}
		r := row{score: score, value: -p.FP, window: -1}
		switch {
		case next < len(s.Windows) && i >= s.Windows[next].First:
			w := s.Windows[next]
			width := float64(w.Last - w.First + 1)
			r.value = sigmoid(-float64(w.Last-i+1)/width) * p.TP / sigmoid(-1)
			r.window = first + next
		case next > 0:
			w := s.Windows[next-1]
			r.value = sigmoid(float64(i-w.Last)/float64(w.Last-w.First)) * p.FP
		}
		rows = append(rows, r)
	}
	return rows
}

// Score finds the threshold with the best raw score over the whole corpus, as
// the benchmark does, and scales it between a detector that says nothing and a
// perfect one.
func Score(corpus []Scored, p Profile) Result {
	var rows []row
	windows := 0
	for _, s := range corpus {
		rows = append(rows, sweep(s, p, windows)...)
		windows += len(s.Windows)
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(b.score, a.score) })
	best := make([]float64, windows)
	caught := make([]bool, windows)
	null := -float64(windows) * p.FN
	now := Result{Profile: p.Name, Raw: null, Threshold: math.Inf(1), Windows: windows}
	top := now
	for i, r := range rows {
		switch {
		case r.window < 0:
			now.Raw += r.value
			now.FalseRows++
		case !caught[r.window]:
			caught[r.window], best[r.window] = true, r.value
			now.Raw += p.FN + r.value
			now.Caught++
		case r.value > best[r.window]:
			now.Raw += r.value - best[r.window]
			best[r.window] = r.value
		}
		now.Threshold = r.score
		if last := i == len(rows)-1 || rows[i+1].score != r.score; last && now.Raw > top.Raw {
			top = now
		}
	}
	if perfect := float64(windows) * p.TP; perfect > null {
		top.Score = 100 * (top.Raw - null) / (perfect - null)
	}
	return top
}
