package inventory

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// orgNoun is the one-row table of the fields that are no list.
const orgNoun = "org"

// Nouns lists the tables of an inventory, which are also the names of its CSV
// files: "org" with the owner organisation, then one per list of [Inventory].
func Nouns() []string {
	out := []string{orgNoun}
	for _, f := range fieldsOf(reflect.TypeFor[Inventory]()) {
		if f.name != orgNoun {
			out = append(out, f.name)
		}
	}
	return out
}

// list returns the slice of a noun; the zero Value when there is none.
func list(inv reflect.Value, noun string) reflect.Value {
	for _, f := range fieldsOf(inv.Type()) {
		if v := inv.FieldByIndex(f.index); f.name == noun && v.Kind() == reflect.Slice {
			return v
		}
	}
	return reflect.Value{}
}

// key is what identifies one element of a noun: its id, or owner and pool.
func key(v reflect.Value) string {
	k := v.Field(0).String()
	if a, ok := v.Interface().(Allocation); ok {
		k += " " + string(a.Pool)
	}
	return k
}

// columns lists the CSV columns of a noun. A record inside a noun that is no
// list has a column per field, "class.name".
func columns(t reflect.Type) []field {
	var out []field
	for _, f := range fieldsOf(t) {
		ft := t.FieldByIndex(f.index).Type
		if ft.Kind() != reflect.Struct || ft.PkgPath() != t.PkgPath() || ft.Implements(reflect.TypeFor[fieldText]()) {
			out = append(out, f)
			continue
		}
		for _, inner := range fieldsOf(ft) {
			out = append(out, field{f.name + "." + inner.name, append(append([]int{}, f.index...), inner.index...), inner.optional})
		}
	}
	return out
}

// EncodeCSV writes one noun of inv, normalized: a header row with the names of
// the YAML fields, then one row per element. [DecodeCSV] reads it back.
func EncodeCSV(w io.Writer, inv Inventory, noun string) error {
	out := csv.NewWriter(w)
	if noun == orgNoun {
		if err := out.WriteAll([][]string{{orgNoun}, {string(inv.Org)}}); err != nil {
			return fmt.Errorf("encode %s: %w", noun, err)
		}
		return nil
	}
	rows := list(reflect.ValueOf(inv.Normalize()), noun)
	if !rows.IsValid() {
		return fmt.Errorf("%w: encode noun %q: want one of %s", ErrInvalid, noun, strings.Join(Nouns(), ", "))
	}
	cols := columns(rows.Type().Elem())
	record := make([]string, len(cols))
	for i, c := range cols {
		record[i] = c.name
	}
	err := out.Write(record)
	for i := 0; i < rows.Len() && err == nil; i++ {
		for j, c := range cols {
			v := rows.Index(i).FieldByIndex(c.index)
			if record[j] = cellText(v); c.optional && empty(v) {
				record[j] = ""
			}
		}
		err = out.Write(record)
	}
	out.Flush()
	if err = errors.Join(err, out.Error()); err != nil {
		return fmt.Errorf("encode %s: %w", noun, err)
	}
	return nil
}

// DecodeCSV reads one noun's table into an inventory that holds nothing else;
// [Merge] adds it to another one. It checks form and repeated ids, not
// references. The error is [Faults], or a failure to read r.
func DecodeCSV(noun, name string, r io.Reader) (Inventory, error) {
	var faults faultList
	inv, _, err := decodeTable(noun, name, r, &faults)
	if err == nil {
		err = faults.err()
	}
	if err != nil {
		return Inventory{}, err
	}
	return inv.Normalize(), nil
}

// decodeTable also returns the table, which knows the line of each row. Faults
// of form have the column as Field.
func decodeTable(noun, name string, r io.Reader, faults *faultList) (Inventory, *table, error) {
	data, fault, err := readText(name, r)
	if err != nil || fault != nil {
		return Inventory{}, nil, asError(fault, err)
	}
	t := &table{name: name, faults: faults, in: csv.NewReader(bytes.NewReader(data))}
	t.in.FieldsPerRecord = -1 // counted here, to report every bad row
	var inv Inventory
	if noun == orgNoun {
		rows := reflect.ValueOf(&[]struct {
			Org OrgID `yaml:"org"`
		}{}).Elem()
		if t.read(rows) && rows.Len() != 1 {
			t.bad(1, "", "%d rows; the table of the owner organisation has one", rows.Len())
		} else if rows.Len() == 1 {
			inv.Org = OrgID(rows.Index(0).Field(0).String())
		}
		return inv, t, nil
	}
	rows := list(reflect.ValueOf(&inv).Elem(), noun)
	if !rows.IsValid() {
		t.bad(0, "", "unknown noun %q (want a file named after one of %s)", noun, strings.Join(Nouns(), ", "))
		t.lost = true
		return inv, t, nil
	}
	if t.read(rows) {
		seen := map[string]int{}
		for i := range rows.Len() {
			k := key(rows.Index(i))
			if line, dup := seen[k]; dup {
				t.bad(t.lines[i], t.cols[0].name, "%q is on line %d already", k, line)
			}
			first(seen, k, t.lines[i])
		}
	}
	return inv, t, nil
}

// table reads one CSV file into a slice of structs.
type table struct {
	name   string
	in     *csv.Reader
	cols   []field // of the noun
	header []int   // index into cols of each column of the file
	lines  []int   // of each row
	lost   bool    // some rows are missing from the result
	faults *faultList
}

func (t *table) bad(line int, field, format string, args ...any) {
	t.faults.add(Fault{File: t.name, Line: line, Field: field, Text: fmt.Sprintf(format, args...)})
}

// read appends every row that has the right shape to rows; false when the
// header is unusable.
func (t *table) read(rows reflect.Value) bool {
	t.cols = columns(rows.Type().Elem())
	t.lost = true
	head, err := t.in.Read()
	switch {
	case errors.Is(err, io.EOF):
		t.bad(0, "", "the file is empty; the first row names the fields (%s)", names(t.cols))
		return false
	case err != nil:
		t.syntax(err)
		return false
	case !t.heading(head):
		return false
	}
	t.lost = false
	for {
		rec, err := t.in.Read()
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			t.syntax(err)
			continue
		}
		line, _ := t.in.FieldPos(0)
		if len(rec) != len(head) {
			t.bad(line, "", "%d columns, the header has %d", len(rec), len(head))
			t.lost = true
			continue
		}
		row := reflect.New(rows.Type().Elem()).Elem()
		for i, cell := range rec {
			c := t.cols[t.header[i]]
			if cell == "" && c.optional {
				continue
			}
			if err := setCell(row.FieldByIndex(c.index), cell); err != nil {
				at, _ := t.in.FieldPos(i)
				t.bad(at, c.name, "%v", err)
			}
		}
		rows.Set(reflect.Append(rows, row))
		t.lines = append(t.lines, line)
	}
}

// heading resolves the header row.
func (t *table) heading(head []string) bool {
	if len(head) == 1 && strings.ContainsAny(head[0], ";\t") {
		t.bad(1, "", "the columns are separated by %q; save the file with commas", string(head[0][strings.IndexAny(head[0], ";\t")]))
		return false
	}
	ok := true
	t.header = make([]int, len(head))
	have := make([]bool, len(t.cols))
	for i, h := range head {
		at := slices.IndexFunc(t.cols, func(c field) bool { return c.name == h })
		switch {
		case at < 0:
			t.bad(1, h, "unknown field (want one of %s)", names(t.cols))
			ok = false
		case have[at]:
			t.bad(1, h, "duplicate column")
			ok = false
		default:
			t.header[i], have[at] = at, true
		}
	}
	for i, c := range t.cols {
		if !have[i] && !c.optional {
			t.bad(1, c.name, "the column is missing")
			ok = false
		}
	}
	return ok
}

// syntax reports a row that is not CSV.
func (t *table) syntax(err error) {
	t.lost = true
	if pe, ok := errors.AsType[*csv.ParseError](err); ok {
		t.bad(pe.Line, "", "not well-formed CSV: %v", pe.Err)
		return
	}
	t.bad(0, "", "not well-formed CSV: %v", err)
}
