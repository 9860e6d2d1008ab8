package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// listColumns are [certificateColumns] without the chain, which is most of a
// row.
const listColumns = `SELECT c.serial, c.issuer, c.issuer_key, c.subject, c.spiffe_id, c.device, c.lineage, c.parent, c.csr_hash, c.wireguard_key,
	c.not_before, c.not_after, c.issued_at, c.issued_by, '', r.revoked_at`

// Search implements [pki.Searches].
func (s *PKI) Search(ctx context.Context, f pki.Filter) (pki.Page, error) {
	where, args, err := s.condition(f)
	if err != nil {
		return pki.Page{}, fmt.Errorf("search certificates: %w", err)
	}
	from := ` FROM pki_certificates c LEFT JOIN pki_revocations r ON r.org = c.org AND r.serial = c.serial WHERE `
	if f.State == "revoked" { // they are few: SQLite keeps the order of a cross join
		from = ` FROM pki_revocations r CROSS JOIN pki_certificates c WHERE r.org = c.org AND r.serial = c.serial AND `
	}
	q := listColumns + from + where + ` ORDER BY c.issued_at DESC, c.serial DESC LIMIT ?`
	var page pki.Page
	err = s.db.Read(ctx, func(tx *Tx) error {
		page = pki.Page{}
		return s.each(tx, q, append(args, f.Limit+1), func(scan rowScan) error {
			c, err := scanCertificate(scan)
			page.Certificates = append(page.Certificates, c)
			return err
		})
	})
	if err != nil {
		return pki.Page{}, fmt.Errorf("search certificates: %w", err)
	}
	if len(page.Certificates) > f.Limit {
		page.Certificates = page.Certificates[:f.Limit]
		page.Next = pki.Cursor(page.Certificates[f.Limit-1])
	}
	return page, nil
}

// condition is the WHERE of a filter.
func (s *PKI) condition(f pki.Filter) (string, []any, error) {
	where, args := []string{"c.org = ?"}, []any{s.org}
	add := func(text string, values ...any) {
		where, args = append(where, text), append(args, values...)
	}
	if f.Device != "" {
		add("c.device = ?", f.Device)
	}
	if f.Issuer != "" {
		add("c.issuer = ?", f.Issuer)
	}
	if f.Lineage != "" {
		add("c.lineage = ?", f.Lineage)
	}
	if f.Serial != "" { // "g" sorts after every hex digit
		add("c.serial >= ? AND c.serial < ?", f.Serial, f.Serial+"g")
	}
	if f.By != "" {
		add("c.issued_by IN (?, ?)", f.By, pki.TokenAuthor(f.By))
	}
	if !f.ExpiresFrom.IsZero() {
		add("c.not_after >= ?", f.ExpiresFrom)
	}
	// What ended before a time was issued before it. Without a bound below, the
	// page is read in order of issue from there: the index of ends would give
	// most rows and have them sorted, so it is kept out by the empty text.
	before := func(t time.Time) {
		if f.State == "valid" || !f.ExpiresFrom.IsZero() {
			add("c.not_after < ?", t)
			return
		}
		add("c.issued_at < ? AND c.not_after || '' < ?", t, t)
	}
	if !f.ExpiresBefore.IsZero() {
		before(f.ExpiresBefore)
	}
	switch f.State {
	case "valid":
		add("r.serial IS NULL AND c.not_after >= ?", f.Now)
	case "expired":
		add("r.serial IS NULL")
		before(f.Now)
	}
	if f.After != "" {
		at, serial, ok := strings.Cut(f.After, "/")
		if _, err := ParseTime(at); err != nil || !ok || serial == "" {
			return "", nil, fmt.Errorf("%w: %q is no cursor of this list", inventory.ErrInvalid, f.After)
		}
		add("(c.issued_at, c.serial) < (?, ?)", at, serial)
	}
	return strings.Join(where, " AND "), args, nil
}

// newest is the serial of the newest certificate of lineage l.
const newest = "(SELECT n.serial FROM pki_certificates n WHERE n.org = l.org AND n.lineage = l.lineage ORDER BY n.issued_at DESC, n.serial DESC LIMIT 1)"

// Newest implements [pki.Searches].
func (s *PKI) Newest(ctx context.Context) ([]pki.Certificate, error) {
	q := listColumns + ` FROM pki_lineages l JOIN pki_certificates c ON c.org = l.org AND c.serial = ` + newest + `
		LEFT JOIN pki_revocations r ON r.org = c.org AND r.serial = c.serial WHERE l.org = ? AND l.revoked_at = '' ORDER BY c.device, c.issued_at`
	var out []pki.Certificate
	err := s.db.Read(ctx, func(tx *Tx) error {
		out = nil
		return s.each(tx, q, []any{s.org}, func(scan rowScan) error {
			c, err := scanCertificate(scan)
			out = append(out, c)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the newest certificates: %w", err)
	}
	return out, nil
}

// Purge implements [pki.Housekeeping].
func (s *PKI) Purge(ctx context.Context, r pki.Retention) (map[string]int, error) {
	const ended = "SELECT l.lineage FROM pki_lineages l WHERE l.org = ? AND l.revoked_at <> '' AND l.revoked_at < ? AND NOT EXISTS (SELECT 1 FROM pki_certificates c WHERE c.org = l.org AND c.lineage = l.lineage) ORDER BY l.lineage LIMIT ?"
	steps := []struct {
		table, where string
		args         []any
	}{
		{"pki_certificates", `serial IN (SELECT c.serial FROM pki_certificates c WHERE c.org = ? AND c.not_after < ? AND NOT EXISTS
			(SELECT 1 FROM pki_lineages l WHERE l.org = c.org AND l.lineage = c.lineage AND l.revoked_at = '' AND c.serial = ` + newest + `)
			ORDER BY c.not_after LIMIT ?)`, []any{s.org, r.Certificates, r.Batch}},
		{"pki_tokens", "hash IN (SELECT hash FROM pki_tokens WHERE org = ? AND expires_at < ? AND used_at < ? LIMIT ?)", []any{s.org, r.Tokens, r.Tokens, r.Batch}},
		{"pki_pending", "NOT EXISTS (SELECT 1 FROM pki_tokens t WHERE t.org = pki_pending.org AND t.hash = pki_pending.hash AND t.used_at = '')", nil},
		{"pki_used_tokens", "id IN (SELECT id FROM pki_used_tokens WHERE org = ? AND expires_at < ? LIMIT ?)", []any{s.org, r.UsedIDs, r.Batch}},
		{"pki_quarantine", "released_at <> '' AND released_at < ?", []any{r.History}},
		{"pki_uptime", "until_at < ?", []any{r.History}},
		{"pki_wireguard_keys", "lineage IN (" + ended + ")", []any{s.org, r.History, r.Batch}},
		{"pki_lineages", "lineage IN (" + ended + ")", []any{s.org, r.History, r.Batch}},
	}
	gone := map[string]int{}
	err := s.write(ctx, func(tx *Tx) error {
		clear(gone)
		for _, step := range steps {
			res, err := tx.Exec("DELETE FROM "+step.table+" WHERE org = ? AND "+step.where, append([]any{s.org}, step.args...)...)
			if err != nil {
				return fmt.Errorf("%s: %w", step.table, err)
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			if n > 0 {
				gone[step.table] = int(n)
			}
		}
		if gone["pki_certificates"] == 0 {
			return nil
		}
		// A removal is a change: who counts rows could else miss one that came with it.
		_, err := s.next(tx, certificateChanges, 1)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("purge certificates: %w", err)
	}
	return gone, nil
}
