package anomaly

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Labelled is one series of a corpus with its labelled anomalies.
type Labelled struct {
	Name    string // path below data/
	At      []time.Time
	Values  []float64
	Windows []Window
}

const nabTime = "2006-01-02 15:04:05"

// ReadNAB reads a corpus in the Numenta Anomaly Benchmark's layout: data/*/*.csv
// with columns timestamp and value, and labels/combined_windows.json. All
// faults are reported at once and wrap [inventory.ErrInvalid].
func ReadNAB(fsys fs.FS) ([]Labelled, error) {
	b, err := fs.ReadFile(fsys, "labels/combined_windows.json")
	if err != nil {
		return nil, fmt.Errorf("%w: read the corpus' labels: %w", inventory.ErrInvalid, err)
	}
	var windows map[string][][2]string
	if err := json.Unmarshal(b, &windows); err != nil {
		return nil, fmt.Errorf("%w: labels/combined_windows.json: %w", inventory.ErrInvalid, err)
	}
	var (
		out  []Labelled
		errs []error
	)
	for _, name := range slices.Sorted(maps.Keys(windows)) {
		l, err := readNABFile(fsys, name, windows[name])
		if errors.Is(err, fs.ErrNotExist) {
			continue // part of a corpus is a corpus
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: %s: %w", inventory.ErrInvalid, name, err))
			continue
		}
		out = append(out, l)
	}
	if len(out) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%w: no file of labels/combined_windows.json is below data/", inventory.ErrInvalid))
	}
	return out, errors.Join(errs...)
}

func readNABFile(fsys fs.FS, name string, windows [][2]string) (Labelled, error) {
	l := Labelled{Name: name}
	f, err := fsys.Open(path.Join("data", name))
	if err != nil {
		return l, err
	}
	defer f.Close() //nolint:errcheck // a reader's close loses nothing
	first := map[string]int{}
	r := csv.NewReader(f)
	r.FieldsPerRecord = 2
	for line := 1; ; line++ {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return l, err
		}
		if line == 1 {
			continue // header
		}
		at, err1 := time.Parse(nabTime, rec[0])
		v, err2 := strconv.ParseFloat(rec[1], 64)
		if err := errors.Join(err1, err2); err != nil {
			return l, fmt.Errorf("line %d: %w", line, err)
		}
		if _, ok := first[rec[0]]; !ok {
			first[rec[0]] = len(l.Values)
		}
		l.At, l.Values = append(l.At, at), append(l.Values, v)
	}
	for _, w := range windows {
		from, _, _ := strings.Cut(w[0], ".")
		to, _, _ := strings.Cut(w[1], ".")
		a, ok1 := first[from]
		b, ok2 := first[to]
		if !ok1 || !ok2 || b < a {
			return l, fmt.Errorf("window %s to %s names no rows", w[0], w[1])
		}
		l.Windows = append(l.Windows, Window{a, b})
	}
	return l, nil
}
