package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

const (
	// maxBackupLine bounds one row; the largest is a revision with its content.
	maxBackupLine = 256 << 20
	// restoreBatch is how many rows go into one INSERT, and restoreParams how
	// many values at most (SQLite takes 32,766).
	restoreBatch, restoreParams = 100, 30000
)

// Restore fills the database named by dsn from a backup. The whole backup is
// read and checked first; if it is cut short or altered, or if the database
// holds data already, nothing changes. A backup of an older schema is migrated.
func Restore(ctx context.Context, dsn string, r io.Reader) (BackupInfo, error) {
	info, err := restore(ctx, dsn, r)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("restore: %w", err)
	}
	return info, nil
}

func restore(ctx context.Context, dsn string, r io.Reader) (info BackupInfo, err error) {
	spool, err := os.CreateTemp("", "wardnet-restore-*") // mode 0600
	if err != nil {
		return info, err
	}
	defer spool.Close()
	if err := os.Remove(spool.Name()); err != nil { // it holds secrets: no name, gone with the process
		return info, err
	}
	if _, err := io.Copy(spool, r); err != nil {
		return info, fmt.Errorf("read the backup: %w", err)
	}
	check := &backupReader{head: func(tableHead) error { return nil }, row: func([]any) error { return nil }}
	if info, err = check.read(spool); err != nil {
		return info, err
	}
	db, err := connect(ctx, dsn)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.refuseUsed(ctx, info.Schema); err != nil {
		return info, err
	}
	if err := db.migrate(ctx, info.Schema); err != nil {
		return info, err
	}
	if err := db.Write(ctx, func(tx *Tx) error { return load(tx, spool) }); err != nil {
		return info, err
	}
	return info, db.migrate(ctx, 0)
}

// refuseUsed makes sure that a backup of the given schema finds an empty database.
func (db *DB) refuseUsed(ctx context.Context, schema int64) error {
	p, err := db.provider()
	if err != nil {
		return fmt.Errorf("load migrations: %w", err)
	}
	have, newest, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if schema > newest {
		return fmt.Errorf("%w: the backup has schema version %d, this program knows %d; install the newer wardnet", inventory.ErrInvalid, schema, newest)
	}
	return db.Read(ctx, func(tx *Tx) error {
		tables, err := catalog(tx)
		if err != nil {
			return err
		}
		if have > schema {
			return fmt.Errorf("%w: the database has schema version %d, the backup %d; give a new, empty database", inventory.ErrConflict, have, schema)
		}
		for _, t := range tables {
			var used bool
			if err := tx.QueryRow("SELECT EXISTS (SELECT 1 FROM " + quote(t.name) + ")").Scan(&used); err != nil {
				return err
			}
			if used {
				return fmt.Errorf("%w: table %s of the database holds rows; give a new, empty database", inventory.ErrConflict, t.name)
			}
		}
		return nil
	})
}

// load inserts the rows of a checked backup.
func load(tx *Tx, spool io.ReadSeeker) error {
	if tx.Dialect() == SQLite {
		// A row may refer to a later one of its own table.
		if _, err := tx.Exec("PRAGMA defer_foreign_keys = ON"); err != nil {
			return err
		}
	}
	var in inserter
	r := &backupReader{
		head: func(h tableHead) error {
			if err := in.flush(tx); err != nil {
				return err
			}
			in = inserter{head: h}
			return nil
		},
		row: func(cells []any) error { return in.add(tx, cells) },
	}
	if _, err := r.read(spool); err != nil {
		return err
	}
	return in.flush(tx)
}

// inserter gathers rows of one table into few statements.
type inserter struct {
	head tableHead
	rows int
	args []any
}

func (in *inserter) add(tx *Tx, cells []any) error {
	in.args = append(in.args, cells...)
	if in.rows++; in.rows == restoreBatch || len(in.args)+len(cells) > restoreParams {
		return in.flush(tx)
	}
	return nil
}

func (in *inserter) flush(tx *Tx) error {
	if in.rows == 0 {
		return nil
	}
	var t table
	for _, c := range in.head.Columns {
		t.columns = append(t.columns, column{name: c})
	}
	one := "(?" + strings.Repeat(", ?", len(in.head.Columns)-1) + ")"
	q := "INSERT INTO " + quote(in.head.Name) + " (" + t.names() + ") VALUES " + one + strings.Repeat(", "+one, in.rows-1)
	if _, err := tx.Exec(q, in.args...); err != nil {
		return fmt.Errorf("table %s: %w", in.head.Name, err)
	}
	in.rows, in.args = 0, in.args[:0]
	return nil
}

// backupReader walks a backup and checks all it says of itself.
type backupReader struct {
	head func(tableHead) error
	row  func(cells []any) error

	info  BackupInfo
	table *tableHead // open
	rows  int64      // of the open table
}

// read walks the backup from its start to its seal.
func (b *backupReader) read(r io.ReadSeeker) (BackupInfo, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return BackupInfo{}, err
	}
	in, sum := bufio.NewReaderSize(r, 1<<16), sha256.New()
	for n := 1; ; n++ {
		line, err := readLine(in)
		if err != nil {
			return BackupInfo{}, fmt.Errorf("%w: the backup is cut short after line %d (%w); use another copy", inventory.ErrInvalid, n-1, err)
		}
		sealed, err := b.line(n, line, sum.Sum)
		if err != nil {
			return BackupInfo{}, fmt.Errorf("backup line %d: %w", n, err)
		}
		if sealed {
			if _, err := in.ReadByte(); err != io.EOF {
				return BackupInfo{}, fmt.Errorf("%w: the backup goes on after its end", inventory.ErrInvalid)
			}
			return b.info, nil
		}
		sum.Write(line)
	}
}

// line handles one line; done means it was the seal.
func (b *backupReader) line(n int, line []byte, sum func([]byte) []byte) (done bool, err error) {
	bad := func(format string, a ...any) (bool, error) {
		return false, fmt.Errorf("%w: %s", inventory.ErrInvalid, fmt.Sprintf(format, a...))
	}
	if line[0] == '[' && b.table != nil {
		cells, err := decodeRow(line, b.table.Kinds)
		if err != nil {
			return bad("table %s: %v", b.table.Name, err)
		}
		b.rows++
		return false, b.row(cells)
	}
	var l backupLine
	if err := json.Unmarshal(line, &l); err != nil {
		return bad("it is out of place or no JSON: %v", err)
	}
	switch {
	case (n == 1) != (l.Header != nil):
		return bad("this is no backup of wardnet")
	case n == 1:
		if l.Header.Format != backupFormat || l.Header.Schema < 1 {
			return bad("the backup has format %d, this program reads %d", l.Header.Format, backupFormat)
		}
		b.info = BackupInfo{Schema: l.Header.Schema, At: l.Header.At}
	case l.Table != nil:
		if b.table != nil || len(l.Table.Columns) == 0 || len(l.Table.Columns) != len(l.Table.Kinds) {
			return bad("the head of table %q is out of place", l.Table.Name)
		}
		b.table, b.rows = l.Table, 0
		return false, b.head(*l.Table)
	case l.End != nil:
		if b.table == nil || l.End.Name != b.table.Name || l.End.Rows != b.rows {
			return bad("table %q ends after %d rows, %d were written", l.End.Name, b.rows, l.End.Rows)
		}
		b.table = nil
		b.info.Tables++
		b.info.Rows += b.rows
	case l.Seal != nil:
		if b.table != nil || !l.Seal.Complete || l.Seal.Tables != b.info.Tables || l.Seal.Rows != b.info.Rows || l.Seal.SHA256 != hex.EncodeToString(sum(nil)) {
			return bad("the content is not what was written; use another copy")
		}
		return true, nil
	default:
		return bad("it is neither row, table nor end")
	}
	return false, nil
}

// decodeRow gives the cells of a row in the types the engines take.
func decodeRow(line []byte, kinds []string) ([]any, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(line, &raw); err != nil {
		return nil, err
	}
	if len(raw) != len(kinds) {
		return nil, fmt.Errorf("a row of %d cells in %d columns", len(raw), len(kinds))
	}
	cells := make([]any, len(raw))
	for i, cell := range raw {
		if bytes.Equal(cell, []byte("null")) {
			continue
		}
		var err error
		switch kinds[i] {
		case kindText:
			cells[i], err = decode[string](cell)
		case kindInteger:
			cells[i], err = decode[int64](cell)
		case kindReal:
			cells[i], err = decode[float64](cell)
		case kindBytes:
			cells[i], err = decode[[]byte](cell)
		default:
			err = fmt.Errorf("unknown kind of column %q", kinds[i])
		}
		if err != nil {
			return nil, err
		}
	}
	return cells, nil
}

func decode[T any](cell []byte) (T, error) {
	var v T
	err := json.Unmarshal(cell, &v)
	return v, err
}

// readLine reads one line with its newline.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, io.ErrUnexpectedEOF
		}
		if len(line) > maxBackupLine {
			return nil, fmt.Errorf("a line over %d bytes", maxBackupLine)
		}
	}
}
