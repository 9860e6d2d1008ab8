package store

import (
	"context"
	"fmt"
	"strings"
)

// The durability tests write transactions of three rows, each of which says
// which bytes it must hold.
const cutParts = 3

func cutPayload(n, part int) string {
	return strings.Repeat(fmt.Sprintf("%d/%d;", n, part), 1+n*n*13%400)
}

func writeParts(ctx context.Context, db *DB, n int) error {
	return db.Write(ctx, func(tx *Tx) error {
		for part := range cutParts {
			_, err := tx.Exec("INSERT INTO inventory_rows (org, noun, id, doc) VALUES ('o', ?, ?, ?)", fmt.Sprint(n), fmt.Sprint(part), cutPayload(n, part))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// scanParts gives the number of rows found of each transaction.
func scanParts(tx *Tx) (map[int]int, error) {
	rows, err := tx.Query("SELECT noun, id, doc FROM inventory_rows")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	parts := map[int]int{}
	for rows.Next() {
		var n, part int
		var doc string
		if err := rows.Scan(&n, &part, &doc); err != nil {
			return nil, err
		}
		if doc != cutPayload(n, part) {
			return nil, fmt.Errorf("transaction %d, part %d holds other bytes", n, part)
		}
		parts[n]++
	}
	return parts, rows.Err()
}
