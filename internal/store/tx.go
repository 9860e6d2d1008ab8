package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// timeLayout has a fixed width, so that stored times sort as text.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

// FormatTime gives t as the store keeps it: UTC, nanoseconds, fixed width.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// ParseTime reads what FormatTime wrote; "" is the zero time.
func ParseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(timeLayout, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("read stored time %q: %w", s, err)
	}
	return t, nil
}

// Tx is a transaction under way. It is valid until the function it was given to
// returns. Queries are written with ? on both engines. Arguments are stored
// alike on both: bool as 0 or 1, time.Time by FormatTime (the zero time as ""),
// json.RawMessage as text.
type Tx struct {
	ctx     context.Context
	tx      *sql.Tx
	dialect Dialect
	// shared: other Writes live in the same SQLite transaction. An interrupted
	// statement would end theirs too, so statements run to their end.
	shared bool
}

// Dialect says which engine runs the transaction, for the rare query that
// cannot be written for both.
func (t *Tx) Dialect() Dialect { return t.dialect }

// Exec runs a statement that returns no rows.
func (t *Tx) Exec(q string, args ...any) (sql.Result, error) {
	ctx, err := t.statement()
	if err != nil {
		return nil, err
	}
	args = stored(args)
	for i, a := range args {
		// PostgreSQL refuses such text; so does SQLite here, that one test run shows it.
		if s, is := a.(string); is && s != text(s) {
			return nil, fmt.Errorf("%w: argument %d is no text: it holds a NUL or bytes that are not UTF-8", inventory.ErrInvalid, i+1)
		}
	}
	return t.tx.ExecContext(ctx, t.bind(q), args...)
}

// Query runs a statement that returns rows; close them before the next one.
func (t *Tx) Query(q string, args ...any) (*sql.Rows, error) {
	ctx, err := t.statement()
	if err != nil {
		return nil, err
	}
	return t.tx.QueryContext(ctx, t.bind(q), stored(args)...)
}

// QueryRow runs a statement that returns at most one row; Scan reports
// sql.ErrNoRows when there is none.
func (t *Tx) QueryRow(q string, args ...any) *sql.Row {
	ctx := t.ctx
	if t.shared {
		ctx = context.WithoutCancel(ctx)
	}
	return t.tx.QueryRowContext(ctx, t.bind(q), stored(args)...)
}

// Lock keeps other writers of table out until the transaction ends; as the
// first statement of a Write it lets a hash chain grow without conflicts. On
// SQLite every writer is alone already.
func (t *Tx) Lock(table string) error {
	if t.dialect != Postgres {
		return nil
	}
	_, err := t.Exec("LOCK TABLE " + quote(table) + " IN EXCLUSIVE MODE")
	return err
}

// statement gives the context for one statement.
func (t *Tx) statement() (context.Context, error) {
	if !t.shared {
		return t.ctx, nil
	}
	if t.ctx.Err() != nil {
		return nil, context.Cause(t.ctx)
	}
	return context.WithoutCancel(t.ctx), nil
}

func (t *Tx) bind(q string) string {
	if t.dialect == Postgres {
		return rebind(q)
	}
	return q
}

// quote makes an identifier safe in SQL of both engines.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// rebind writes ? as $1, $2, … and leaves literals, quoted names and comments
// alone.
func rebind(q string) string {
	var b strings.Builder
	b.Grow(len(q) + 8)
	for i, n := 0, 0; i < len(q); {
		end := i + 1
		switch {
		case q[i] == '?':
			n++
			b.WriteString("$" + strconv.Itoa(n))
			i = end
			continue
		case q[i] == '\'' || q[i] == '"':
			end = after(q, i+1, q[i:i+1]) // a doubled quote is two literals in a row: the same to us
		case strings.HasPrefix(q[i:], "--"):
			end = after(q, i+2, "\n")
		case strings.HasPrefix(q[i:], "/*"):
			end = after(q, i+2, "*/")
		}
		b.WriteString(q[i:end])
		i = end
	}
	return b.String()
}

// after gives the index behind the first mark at or behind from, or the end.
func after(q string, from int, mark string) int {
	if i := strings.Index(q[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(q)
}

// stored gives the arguments in the form both engines keep.
func stored(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case bool:
			out[i] = int64(0)
			if v {
				out[i] = int64(1)
			}
		case time.Time:
			out[i] = ""
			if !v.IsZero() {
				out[i] = FormatTime(v)
			}
		case *time.Time:
			if v != nil {
				out[i] = FormatTime(*v)
			}
		case json.RawMessage:
			out[i] = string(v)
		default:
			out[i] = a
			if r := reflect.ValueOf(a); r.Kind() == reflect.String { // an id of a named type
				out[i] = r.String()
			}
		}
	}
	return out
}

// text makes s storable as text on both engines.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
