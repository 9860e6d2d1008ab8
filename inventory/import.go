package inventory

import (
	"fmt"
	"io"
	"path"
	"reflect"
	"strconv"
	"strings"
)

// Source is one file of an import. Its name decides how it is read: *.yaml,
// *.yml and *.json hold a whole inventory, <noun>.csv the rows of one noun.
type Source struct {
	Name string
	R    io.Reader
}

// Import builds an inventory out of several files. At most one of them is a
// whole document, which takes the place of base; CSV rows are added to it, or
// replace the element with their id. The result is checked as a whole and
// returned normalized; the error is [Faults] with every fault of every file,
// or a failure to read.
func Import(base Inventory, sources ...Source) (Inventory, error) {
	b := builder{inv: base, origin: map[string]origin{}}
	if len(sources) == 0 {
		return Inventory{}, Faults{{Text: "nothing to import; name at least one .yaml or .csv file"}}
	}
	document := ""
	for _, s := range sources {
		if !isDocument(s.Name) {
			continue
		}
		if document != "" {
			b.faults.add(Fault{File: s.Name, Text: fmt.Sprintf("%s is a whole inventory already; import one at a time", document)})
			continue
		}
		document = s.Name
		if err := b.document(s); err != nil {
			return Inventory{}, err
		}
	}
	for _, s := range sources {
		if isDocument(s.Name) {
			continue
		}
		if path.Ext(s.Name) != ".csv" {
			b.faults.add(Fault{File: s.Name, Text: "unknown kind of file (want .yaml, .json or <noun>.csv)"})
			b.unread = true
			continue
		}
		if err := b.table(s); err != nil {
			return Inventory{}, err
		}
	}
	if !b.unread {
		b.faults.placed(Validate(b.inv), b.locate)
	}
	if err := b.faults.err(); err != nil {
		return Inventory{}, err
	}
	return b.inv.Normalize(), nil
}

func isDocument(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// Merge adds the elements of part to base, in place of those with the same id,
// and returns the result normalized. It does not validate.
func Merge(base, part Inventory) Inventory {
	b := builder{inv: base, origin: map[string]origin{}}
	b.upsert(part, func(string, int) origin { return origin{} })
	return b.inv.Normalize()
}

// origin is where an element was read.
type origin struct {
	file string
	line int
}

// builder puts an inventory together and remembers where its parts came from.
type builder struct {
	inv    Inventory
	origin map[string]origin // by noun and key
	doc    func(*Fault)      // places a fault in the document, nil without one
	faults faultList
	unread bool // a file gave nothing to check
}

// keep adds the faults of a file that could not be used at all; any other
// error is returned.
func (b *builder) keep(err error) error {
	faults, ok := err.(Faults) //nolint:errorlint // ours, unwrapped
	if !ok {
		return err
	}
	b.unread = true
	for _, f := range faults {
		b.faults.add(f)
	}
	return nil
}

func (b *builder) document(s Source) error {
	inv, root, faults, err := decodeYAML(s.Name, s.R)
	if err != nil {
		return b.keep(err)
	}
	for _, f := range faults.list {
		b.faults.add(f)
	}
	b.inv = inv
	b.doc = func(f *Fault) { f.File, f.Line = s.Name, lineOf(root, f.Field) }
	return nil
}

func (b *builder) table(s Source) error {
	noun := strings.TrimSuffix(path.Base(s.Name), ".csv")
	part, t, err := decodeTable(noun, s.Name, s.R, &b.faults)
	if err != nil {
		return b.keep(err)
	}
	b.unread = b.unread || t.lost // what refers to a lost row would only add noise
	if part.Org != "" && b.inv.Org != "" && part.Org != b.inv.Org {
		b.faults.add(Fault{File: s.Name, Line: t.lines[0], Field: orgNoun, Text: fmt.Sprintf("%q is not %q, who owns this inventory", part.Org, b.inv.Org)})
		return nil
	}
	b.upsert(part, func(_ string, i int) origin { return origin{s.Name, t.lines[i]} })
	return nil
}

// upsert adds part to what is there; from tells where an element was read.
func (b *builder) upsert(part Inventory, from func(noun string, i int) origin) {
	if part.Org != "" {
		b.inv.Org = part.Org
	}
	into, add := reflect.ValueOf(&b.inv).Elem(), reflect.ValueOf(part)
	for _, noun := range Nouns() {
		news := list(add, noun)
		if !news.IsValid() || news.Len() == 0 {
			continue
		}
		old := list(into, noun)
		rows := reflect.MakeSlice(old.Type(), old.Len(), old.Len()+news.Len())
		reflect.Copy(rows, old)
		at := make(map[string]int, rows.Len())
		for i := range rows.Len() {
			first(at, key(rows.Index(i)), i)
		}
		for i := range news.Len() {
			row := news.Index(i)
			k := key(row)
			o := from(noun, i)
			switch j, ok := at[k]; {
			case !ok:
				at[k] = rows.Len()
				rows = reflect.Append(rows, row)
			default:
				if had := b.origin[noun+" "+k]; had.file != "" && had.file != o.file {
					b.faults.add(Fault{File: o.file, Line: o.line, Text: fmt.Sprintf("%q is in %s on line %d too", k, had.file, had.line)})
				}
				rows.Index(j).Set(row)
			}
			b.origin[noun+" "+k] = o
		}
		old.Set(rows)
	}
}

// locate fills in where the field of a fault was read. A field that came from
// a CSV row is named by its column.
func (b *builder) locate(f *Fault) {
	noun, rest, _ := strings.Cut(f.Field, "[")
	num, column, ok := strings.Cut(rest, "]")
	if i, err := strconv.Atoi(num); ok && err == nil {
		if rows := list(reflect.ValueOf(b.inv), noun); rows.IsValid() && i < rows.Len() {
			if o := b.origin[noun+" "+key(rows.Index(i))]; o.file != "" {
				f.File, f.Line, f.Field = o.file, o.line, strings.TrimPrefix(column, ".")
				return
			}
		}
	}
	if b.doc != nil {
		b.doc(f)
	}
}
