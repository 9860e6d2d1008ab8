package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
)

// backupFormat is the version of the backup's own format, not of the schema.
const backupFormat = 1

// backupLine is one line of a backup that is not a row: the header first, then
// for each table its head, its rows (JSON arrays; bytes are base64) and its end,
// and last the seal.
type backupLine struct {
	Header *backupHeader `json:"header,omitempty"`
	Table  *tableHead    `json:"table,omitempty"`
	End    *tableEnd     `json:"end,omitempty"`
	Seal   *backupSeal   `json:"seal,omitempty"`
}

type backupHeader struct {
	Format int       `json:"wardnet_backup"`
	Schema int64     `json:"schema"` // number of the newest migration
	Engine Dialect   `json:"engine"` // where it was made; it restores on both
	At     time.Time `json:"at"`
}

type tableHead struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Kinds   []string `json:"kinds"`
}

type tableEnd struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

type backupSeal struct {
	Complete bool   `json:"complete"`
	Tables   int    `json:"tables"`
	Rows     int64  `json:"rows"`
	SHA256   string `json:"sha256"` // lower-case hex, of every byte before this line
}

// BackupInfo says what a backup holds.
type BackupInfo struct {
	Schema int64
	At     time.Time // UTC
	Tables int
	Rows   int64
}

// Backup writes everything in the database, as of one moment, to w; writers go
// on meanwhile. The format is the same for both engines: what one wrote the
// other restores. It is not encrypted, and it holds secrets.
func (db *DB) Backup(ctx context.Context, w io.Writer) (BackupInfo, error) {
	info := BackupInfo{At: time.Now().UTC()}
	var err error
	if info.Schema, err = db.schemaVersion(ctx); err != nil {
		return BackupInfo{}, fmt.Errorf("back up: %w", err)
	}
	out := newSealed(w)
	err = db.Read(ctx, func(tx *Tx) error {
		out.line(backupLine{Header: &backupHeader{backupFormat, info.Schema, db.dialect, info.At}})
		tables, err := catalog(tx)
		if err != nil {
			return err
		}
		for _, t := range tables {
			n, err := dump(tx, t, out)
			if err != nil {
				return fmt.Errorf("table %s: %w", t.name, err)
			}
			info.Tables++
			info.Rows += n
		}
		return nil
	})
	if err == nil {
		err = out.seal(backupSeal{Complete: true, Tables: info.Tables, Rows: info.Rows})
	}
	if err != nil {
		return BackupInfo{}, fmt.Errorf("back up: %w", err)
	}
	return info, nil
}

// dump writes one table in the order of its primary key.
func dump(tx *Tx, t table, out *sealed) (int64, error) {
	head := tableHead{Name: t.name}
	for _, c := range t.columns {
		head.Columns, head.Kinds = append(head.Columns, c.name), append(head.Kinds, c.kind)
	}
	out.line(backupLine{Table: &head})
	q := "SELECT " + t.names() + " FROM " + quote(t.name)
	if len(t.key) > 0 {
		q += " ORDER BY \"" + strings.Join(t.key, `", "`) + `"`
	}
	rows, err := tx.Query(q)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	cells, values := make([]any, len(t.columns)), make([]any, len(t.columns))
	for i, c := range t.columns {
		switch c.kind {
		case kindText:
			cells[i] = new(sql.Null[string])
		case kindInteger:
			cells[i] = new(sql.Null[int64])
		case kindReal:
			cells[i] = new(sql.Null[float64])
		case kindBytes:
			cells[i] = new([]byte)
		}
	}
	n := int64(0)
	for rows.Next() {
		if err := rows.Scan(cells...); err != nil {
			return n, err
		}
		for i, c := range cells {
			values[i] = plain(c)
		}
		if err := out.line(values); err != nil {
			return n, err
		}
		n++
	}
	if err := rows.Err(); err != nil {
		return n, err
	}
	return n, out.line(backupLine{End: &tableEnd{t.name, n}})
}

// plain gives the value of a scanned cell, nil for NULL.
func plain(cell any) any {
	switch v := cell.(type) {
	case *sql.Null[string]:
		if v.Valid {
			return v.V
		}
	case *sql.Null[int64]:
		if v.Valid {
			return v.V
		}
	case *sql.Null[float64]:
		if v.Valid {
			return v.V
		}
	case *[]byte:
		if *v != nil {
			return *v
		}
	}
	return nil
}

// sealed writes JSON lines and hashes them; it remembers the first error.
type sealed struct {
	w   *bufio.Writer
	sum hash.Hash
	enc *json.Encoder
	err error
}

func newSealed(w io.Writer) *sealed {
	s := &sealed{w: bufio.NewWriterSize(w, 1<<16), sum: sha256.New()}
	s.enc = json.NewEncoder(io.MultiWriter(s.w, s.sum))
	s.enc.SetEscapeHTML(false)
	return s
}

func (s *sealed) line(v any) error {
	if s.err == nil {
		s.err = s.enc.Encode(v)
	}
	return s.err
}

func (s *sealed) seal(v backupSeal) error {
	v.SHA256 = hex.EncodeToString(s.sum.Sum(nil))
	if err := s.line(backupLine{Seal: &v}); err != nil {
		return err
	}
	return s.w.Flush()
}
