package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Kinds of column; both engines keep these four and migrations use no other.
const (
	kindText    = "text"
	kindInteger = "integer" // 64 bits
	kindReal    = "real"    // IEEE 754 double
	kindBytes   = "bytes"
)

// kinds maps the engines' type names.
var kinds = map[string]string{
	"text": kindText, "bigint": kindInteger, "double precision": kindReal, "blob": kindBytes, "bytea": kindBytes,
}

// table describes one table of the schema.
type table struct {
	name    string
	columns []column
	key     []string // primary key
	refs    []string // tables its foreign keys name
}

type column struct {
	name, kind string
	null       bool
}

const (
	sqliteTables  = `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name <> 'goose_db_version' ORDER BY name`
	sqliteColumns = `SELECT name, lower(type), CASE "notnull" WHEN 1 THEN 0 ELSE 1 END FROM pragma_table_info(?) ORDER BY cid`
	sqliteKey     = `SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk`
	sqliteRefs    = `SELECT DISTINCT "table" FROM pragma_foreign_key_list(?) ORDER BY 1`

	postgresTables = `SELECT table_name::text FROM information_schema.tables
		WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' AND table_name <> 'goose_db_version' ORDER BY 1`
	postgresColumns = `SELECT column_name::text, data_type::text, CASE is_nullable WHEN 'YES' THEN 1 ELSE 0 END FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name = ? ORDER BY ordinal_position`
	postgresKey = `SELECT a.attname::text FROM pg_index i
		CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(attnum, n)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE i.indisprimary AND i.indrelid = to_regclass(quote_ident(?)) ORDER BY k.n`
	postgresRefs = `SELECT DISTINCT confrelid::regclass::text FROM pg_constraint
		WHERE contype = 'f' AND conrelid = to_regclass(quote_ident(?)) ORDER BY 1`
)

// catalog lists the tables of the schema, those referred to first.
func catalog(tx *Tx) ([]table, error) {
	tables, columns, key, refs := sqliteTables, sqliteColumns, sqliteKey, sqliteRefs
	if tx.Dialect() == Postgres {
		tables, columns, key, refs = postgresTables, postgresColumns, postgresKey, postgresRefs
	}
	names, err := strs(tx, tables)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	var all []table
	for _, name := range names {
		t := table{name: name}
		if t.columns, err = columnsOf(tx, columns, name); err != nil {
			return nil, fmt.Errorf("table %s: %w", name, err)
		}
		if t.key, err = strs(tx, key, name); err != nil {
			return nil, fmt.Errorf("table %s: read primary key: %w", name, err)
		}
		if t.refs, err = strs(tx, refs, name); err != nil {
			return nil, fmt.Errorf("table %s: read foreign keys: %w", name, err)
		}
		all = append(all, t)
	}
	return byReference(all), nil
}

func columnsOf(tx *Tx, query, name string) ([]column, error) {
	rows, err := tx.Query(query, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []column
	for rows.Next() {
		var c column
		var native string
		if err := rows.Scan(&c.name, &native, &c.null); err != nil {
			return nil, err
		}
		if c.kind = kinds[native]; c.kind == "" {
			return nil, fmt.Errorf("column %s has type %s; migrations use TEXT, BIGINT, DOUBLE PRECISION and BLOB or BYTEA", c.name, native)
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// strs runs a query for one column of text.
func strs(tx *Tx, query string, args ...any) ([]string, error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// documents reads the rows of a query for one column of JSON.
func documents[T any](tx *Tx, query string, args ...any) ([]T, error) {
	docs, err := strs(tx, query, args...)
	if err != nil || len(docs) == 0 {
		return nil, err
	}
	out := make([]T, len(docs))
	for i, doc := range docs {
		if err := json.Unmarshal([]byte(doc), &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// byReference orders tables so that rows can be inserted in that order.
func byReference(all []table) []table {
	var out []table
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		if i := slices.IndexFunc(all, func(t table) bool { return t.name == name }); i >= 0 {
			for _, ref := range all[i].refs {
				visit(ref)
			}
			out = append(out, all[i])
		}
	}
	for _, t := range all {
		visit(t.name)
	}
	return out
}

// names lists the columns, quoted for SQL.
func (t table) names() string {
	quoted := make([]string, len(t.columns))
	for i, c := range t.columns {
		quoted[i] = quote(c.name)
	}
	return strings.Join(quoted, ", ")
}
