package store

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

func sortedCopy(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return out
}

// The schema of the two engines is one: the same tables, columns, kinds and
// keys; every table has its organisation; no migration inserts rows, for a
// restore needs an empty database.
func TestEnginesHaveOneSchema(t *testing.T) {
	schemas := map[string][]table{}
	for name, open := range engines(t) {
		db := open(t)
		err := db.Read(t.Context(), func(tx *Tx) error {
			tables, err := catalog(tx)
			schemas[name] = tables
			for _, each := range tables {
				var n int
				if err := tx.QueryRow("SELECT count(*) FROM " + quote(each.name)).Scan(&n); err != nil {
					return err
				}
				if n != 0 {
					t.Errorf("%s: the migration of table %s inserts rows", name, each.name)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range schemas["sqlite"] {
		if !slices.Contains(a.columns, column{name: "org", kind: kindText}) {
			t.Errorf("table %s has no column org TEXT NOT NULL", a.name)
		}
		if len(a.key) == 0 {
			t.Errorf("table %s has no primary key", a.name)
		}
		i := slices.IndexFunc(schemas["postgres"], func(b table) bool { return b.name == a.name })
		if i < 0 {
			t.Errorf("table %s is missing on postgres", a.name)
		} else if !reflect.DeepEqual(a, schemas["postgres"][i]) {
			t.Errorf("table %s differs:\n  sqlite %+v\npostgres %+v", a.name, a, schemas["postgres"][i])
		}
	}
	if len(schemas["sqlite"]) != len(schemas["postgres"]) {
		t.Errorf("%d tables on sqlite, %d on postgres", len(schemas["sqlite"]), len(schemas["postgres"]))
	}
}

func TestDSN(t *testing.T) {
	for dsn, want := range map[string]string{
		"":                                    "it is empty",
		"wardnet.db":                          "no scheme",
		"sqlite://wardnet.db":                 "three slashes",
		"sqlite:wardnet.db":                   "absolute",
		"sqlite:///":                          "name a file",
		"sqlite:///a.db?_pragma=x":            "no parameters",
		"mysql://root:hunter2@h/db":           "no engine we know",
		"postgres://u:hunter2@h:port/db":      "not a URL",
		"postgres://u:hunter2@h/db?sslmode=x": "sslmode",
		"postgres://u:hunter2@%zz/db":         "not a URL",
		"sqlite://u:hunter2@/x":               "three slashes",
		"postgres://u:hunter2@127.0.0.1:1/db?connect_timeout=1&sslmode=disable": "",
	} {
		db, err := Open(t.Context(), dsn)
		if err == nil {
			t.Errorf("%q was opened", dsn)
			db.Close()
			continue
		}
		if invalid := errors.Is(err, inventory.ErrInvalid); !strings.Contains(err.Error(), want) || invalid != (want != "") {
			t.Errorf("%q gave %v (invalid: %v), want %q", dsn, err, invalid, want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error of %q holds the password: %v", dsn, err)
		}
	}
}

func TestRebind(t *testing.T) {
	for q, want := range map[string]string{
		"SELECT ? FROM t WHERE a = ? OR b = ?":  "SELECT $1 FROM t WHERE a = $2 OR b = $3",
		`SELECT '?', "a?", ? -- why?` + "\n, ?": `SELECT '?', "a?", $1 -- why?` + "\n, $2",
		`SELECT 'it''s ?' /* ? */ || ?`:         `SELECT 'it''s ?' /* ? */ || $1`,
		"SELECT '?":                             "SELECT '?",
		"":                                      "",
	} {
		if got := rebind(q); got != want {
			t.Errorf("%s\n got %s\nwant %s", q, got, want)
		}
	}
}

// A query made of pieces that hold no ? outside literals, joined by ?, has one
// number per join, in order, and is otherwise unchanged.
func TestRebindNumbersEveryPlaceholder(t *testing.T) {
	piece := rapid.SampledFrom([]string{"a", "'?'", "''", `"x?"`, "/*?*/", "--?\n", " ", "'''?'"})
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(piece, 1, 15).Draw(t, "pieces")
		got := rebind(strings.Join(pieces, " ? "))
		var want strings.Builder
		for i, p := range pieces {
			if i > 0 {
				want.WriteString(" $" + strconv.Itoa(i) + " ")
			}
			want.WriteString(p)
		}
		if got != want.String() {
			t.Fatalf("got %q, want %q", got, want.String())
		}
	})
}
