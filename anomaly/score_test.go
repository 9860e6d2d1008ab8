package anomaly

import (
	"math"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"
)

// series of 100 rows: 15 are on probation, the window is rows 40 to 49.
func scored(positive ...int) Scored {
	s := Scored{Scores: make([]float64, 100), Windows: []Window{{40, 49}}}
	for _, i := range positive {
		s.Scores[i] = 1
	}
	return s
}

func TestScore(t *testing.T) {
	standard := Profiles[0]
	far := func(i int) float64 { return 0.11 * sigmoid(float64(i-49)/9) }
	for name, tt := range map[string]struct {
		in   Scored
		p    Profile
		want float64
	}{
		"nothing said":            {scored(), standard, 0},
		"first row of the window": {scored(40), standard, 100},
		"last row of the window":  {scored(49), standard, 50 * (1 + sigmoid(-0.1)/sigmoid(-1))},
		"best row counts once":    {scored(40, 45, 49), standard, 100},
		"false row before":        {scored(40, 20), standard, 50 * (2 - 0.11)},
		"false row just behind":   {scored(40, 50), standard, 50 * (2 + far(50))},
		"false row far behind":    {scored(40, 99), standard, 50 * (2 - 0.11)},
		"each false row costs":    {scored(40, 20, 21, 22), standard, 50 * (2 - 0.33)},
		"probation is free":       {scored(40, 3, 14), standard, 100},
		"low FP":                  {scored(40, 20), Profiles[1], 50 * (2 - 0.22)},
		"low FN":                  {scored(), Profiles[2], 0},
		"low FN, caught":          {scored(40), Profiles[2], 100},
		"too many false rows":     {scored(15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 40), standard, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Score([]Scored{tt.in}, tt.p); math.Abs(got.Score-max(tt.want, 0)) > 1e-9 {
				t.Errorf("score %v, want %v (%+v)", got.Score, tt.want, got)
			}
		})
	}
	if n := Probation(10_000); n != 750 {
		t.Errorf("probation %d", n)
	}
	if sigmoid(3.1) != -1 || math.Abs(sigmoid(0)) > 1e-12 || sigmoid(-1) < 0.98 {
		t.Error("sigmoid")
	}
}

// The one sweep over sorted scores equals trying every threshold.
func TestScoreFindsTheBestThreshold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(10, 60).Draw(t, "n")
		s := Scored{Scores: make([]float64, n)}
		for i := range s.Scores {
			s.Scores[i] = float64(rapid.IntRange(0, 6).Draw(t, "score"))
		}
		first := rapid.IntRange(0, n-1).Draw(t, "first")
		s.Windows = []Window{{first, rapid.IntRange(first, n-1).Draw(t, "last")}}
		best := -Profiles[0].FN
		for threshold := range 7 {
			raw, top, hit := 0.0, 0.0, false
			for i, r := range sweep(s, Profiles[0], 0) {
				switch _ = i; {
				case r.score < float64(threshold):
				case r.window < 0:
					raw += r.value
				default:
					top, hit = max(top, r.value), true
				}
			}
			if !hit {
				top = -Profiles[0].FN
			}
			best = max(best, raw+top)
		}
		if got := Score([]Scored{s}, Profiles[0]); math.Abs(got.Raw-best) > 1e-9 {
			t.Fatalf("raw %v, want %v", got.Raw, best)
		}
	})
}

func TestReadNAB(t *testing.T) {
	corpus := func(csv string) fstest.MapFS {
		return fstest.MapFS{
			"labels/combined_windows.json": {Data: []byte(`{"a/x.csv": [["2026-01-01 00:05:00.000000", "2026-01-01 00:10:00.000000"]], "a/absent.csv": []}`)},
			"data/a/x.csv":                 {Data: []byte(csv)},
		}
	}
	got, err := ReadNAB(corpus("timestamp,value\n2026-01-01 00:00:00,1\n2026-01-01 00:05:00,2.5\n2026-01-01 00:05:00,3\n2026-01-01 00:10:00,4\n"))
	if err != nil || len(got) != 1 || len(got[0].Values) != 4 || got[0].Windows[0] != (Window{1, 3}) {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, csv := range map[string]string{
		"no such row": "timestamp,value\n2026-01-01 00:00:00,1\n", "not a number": "timestamp,value\n2026-01-01 00:05:00,x\n", "columns": "a,b,c\n",
	} {
		if _, err := ReadNAB(corpus(csv)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := ReadNAB(fstest.MapFS{}); err == nil {
		t.Error("an empty folder is no corpus")
	}
}
