package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxFaults bounds what is kept of a hopeless document; the rest is counted.
const maxFaults = 1000

// Fault is one thing wrong with a document, and where. Text names the thing
// and says what to do about it.
type Fault struct {
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"`  // from 1; 0: unknown
	Field string `json:"field,omitempty"` // e.g. "sites[3].hubs[0]", or a CSV column
	Text  string `json:"text"`
}

// String is "file:line: field: text" without the parts that are unknown.
func (f Fault) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		b.WriteString(": ")
	}
	if f.Field != "" {
		b.WriteString(f.Field + ": ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Faults is the error of a document or an inventory that is not valid: all its
// faults at once. It wraps [ErrInvalid].
type Faults []Fault

// Error lists every fault, one per line.
func (fs Faults) Error() string {
	if len(fs) == 1 {
		return "invalid inventory: " + fs[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "invalid inventory: %d faults", len(fs))
	for _, f := range fs {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// Unwrap makes errors.Is(err, ErrInvalid) hold.
func (fs Faults) Unwrap() error { return ErrInvalid }

// Hint says what to do next.
func (fs Faults) Hint() string {
	return "nothing was changed; correct what is listed and try again"
}

// faultList collects faults up to [maxFaults] and counts the rest.
type faultList struct {
	list Faults
	more int
}

func (l *faultList) add(f Fault) {
	if len(l.list) >= maxFaults {
		l.more++
		return
	}
	l.list = append(l.list, f)
}

// err returns the faults in file and line order, or nil when there are none.
func (l *faultList) err() error {
	if len(l.list) == 0 {
		return nil
	}
	slices.SortStableFunc(l.list, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	if l.more > 0 {
		l.list = append(l.list, Fault{Text: fmt.Sprintf("and %d more faults", l.more)})
		l.more = 0
	}
	return l.list
}

// placed adds the faults of err, which came from [Validate], after locate has
// filled in their file and line. A fault at or below a field that is already
// known to be broken, or in a CSV row that is, only repeats the first one and
// is left out.
func (l *faultList) placed(err error, locate func(*Fault)) {
	faults, _ := err.(Faults) //nolint:errorlint // Validate returns the bare type
	if len(faults) == 0 {
		return
	}
	type row struct {
		file string
		line int
	}
	fields, rows := map[string]bool{}, map[row]bool{}
	for _, f := range l.list {
		fields[f.Field] = true
		if strings.HasSuffix(f.File, ".csv") {
			rows[row{f.File, f.Line}] = true
		}
	}
	for _, f := range faults {
		if within(f.Field, fields) {
			continue
		}
		if locate(&f); !rows[row{f.File, f.Line}] {
			l.add(f)
		}
	}
}

// within says whether field or one of its parents is in set.
func within(field string, set map[string]bool) bool {
	for field != "" {
		if set[field] {
			return true
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			return false
		}
		field = field[:i]
	}
	return false
}
