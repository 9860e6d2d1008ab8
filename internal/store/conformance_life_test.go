package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// issued makes n certificates of ten devices, an hour apart, each valid for a
// week, and puts them in.
func issued(tb testing.TB, db *DB, org inventory.OrgID, n int, from time.Time) []pki.Certificate {
	tb.Helper()
	s := NewPKI(db, org)
	var all []pki.Certificate
	for i := range n {
		at := from.Add(time.Duration(i) * time.Hour)
		c := pki.Certificate{
			Serial: fmt.Sprintf("%08x", i*7919), Issuer: []pki.Issuer{pki.Devices, pki.Services}[i%5/4], Device: inventory.DeviceID(fmt.Sprintf("d-%d", i%10)),
			Lineage: fmt.Sprintf("l-%d", i%10), CSRHash: fmt.Sprint("csr", i), NotBefore: at, NotAfter: at.Add(7 * 24 * time.Hour), IssuedAt: at,
			IssuedBy: []string{"lan", pki.TokenAuthor("lan"), "renewal of x", "an"}[i%4], Chain: strings.Repeat("x", 1500),
		}
		all = append(all, c)
	}
	for part := range slices.Chunk(all, 500) {
		err := db.Write(context.Background(), func(tx *Tx) error {
			for _, c := range part {
				if err := s.insert(tx, c); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	for i := range min(10, n) {
		l := fmt.Sprintf("l-%d", i)
		err := db.Write(context.Background(), func(tx *Tx) error {
			_, err := tx.Exec("INSERT INTO pki_lineages (org, lineage, device, wireguard_key, started_at) VALUES (?, ?, ?, ?, ?)", org, l, fmt.Sprintf("d-%d", i), "wg"+l, from)
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return all
}

// A search gives what a loop over everything gives, in pages of any size.
func TestSearchEqualsALoop(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db, from := open(t), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
			s, all := NewPKI(db, "hcmc"), issued(t, db, "hcmc", 300, from)
			issued(t, db, "other", 20, from)
			revoked := map[string]bool{}
			for i := 0; i < len(all); i += 17 {
				r := pki.Revocation{Serial: all[i].Serial, At: from, NotAfter: all[i].NotAfter, Reason: "test"}
				if _, err := s.MergeRevocations(t.Context(), []pki.Revocation{r}, from); err != nil {
					t.Fatal(err)
				}
				revoked[r.Serial] = true
			}
			rapid.Check(t, func(rt *rapid.T) {
				moment := func(label string) time.Time {
					return from.Add(time.Duration(rapid.IntRange(0, 600).Draw(rt, label)) * time.Hour)
				}
				f := pki.Filter{
					Device: inventory.DeviceID(rapid.SampledFrom([]string{"", "d-3", "nobody"}).Draw(rt, "device")),
					Issuer: pki.Issuer(rapid.SampledFrom([]string{"", "devices", "services"}).Draw(rt, "issuer")),
					Serial: rapid.SampledFrom([]string{"", "0", "00", "0001", all[5].Serial}).Draw(rt, "serial"),
					State:  rapid.SampledFrom([]string{"", "valid", "expired", "revoked"}).Draw(rt, "state"),
					By:     rapid.SampledFrom([]string{"", "lan", "an"}).Draw(rt, "by"),
					Now:    moment("now"), Limit: rapid.IntRange(1, 40).Draw(rt, "limit"),
				}
				if rapid.Bool().Draw(rt, "from?") {
					f.ExpiresFrom = moment("from")
				}
				if rapid.Bool().Draw(rt, "before?") {
					f.ExpiresBefore = moment("before")
				}
				var want []string
				for _, c := range all {
					state := c.State(f.Now)
					if revoked[c.Serial] {
						state = "revoked"
					}
					if (f.Device == "" || f.Device == c.Device) && (f.Issuer == "" || f.Issuer == c.Issuer) && strings.HasPrefix(c.Serial, f.Serial) &&
						(f.State == "" || f.State == state) && (f.By == "" || c.IssuedBy == f.By || c.IssuedBy == pki.TokenAuthor(f.By)) &&
						(f.ExpiresFrom.IsZero() || !c.NotAfter.Before(f.ExpiresFrom)) && (f.ExpiresBefore.IsZero() || c.NotAfter.Before(f.ExpiresBefore)) {
						want = append(want, c.Serial)
					}
				}
				slices.Reverse(want)
				var got []string
				for {
					page, err := s.Search(context.Background(), f)
					if err != nil {
						rt.Fatal(err)
					}
					for _, c := range page.Certificates {
						got = append(got, c.Serial)
						if c.Chain != "" || c.RevokedAt.IsZero() == revoked[c.Serial] {
							rt.Fatalf("%s: chain %d, revoked %s", c.Serial, len(c.Chain), c.RevokedAt)
						}
					}
					if page.Next == "" {
						break
					}
					f.After = page.Next
				}
				if !slices.Equal(got, want) {
					rt.Fatalf("%+v gave %v, want %v", f, got, want)
				}
			})
			if _, err := s.Search(t.Context(), pki.Filter{After: "nonsense", Limit: 1}); !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("a made-up cursor gave %v", err)
			}
		})
	}
}

// Certificates come and go for a year: the store holds what is young and the
// newest of every live lineage, and its file stops growing.
func TestPurgeKeepsTheStoreFlat(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			s, from := NewPKI(db, "hcmc"), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
			issued(t, db, "hcmc", 10, from) // ten lineages, which then fall silent
			var sizes []int64
			n := 0
			for month := range 12 {
				start := from.AddDate(0, month, 1)
				for i := range 400 {
					n++
					at := start.Add(time.Duration(i) * time.Hour)
					c := pki.Certificate{Serial: fmt.Sprintf("f%x", n), Issuer: pki.Services, CSRHash: fmt.Sprint("new", n), NotBefore: at, NotAfter: at.Add(7 * 24 * time.Hour), IssuedAt: at, Chain: strings.Repeat("x", 1500)}
					if err := db.Write(t.Context(), func(tx *Tx) error { return s.insert(tx, c) }); err != nil {
						t.Fatal(err)
					}
					if _, err := s.UseToken(t.Context(), fmt.Sprint("jti", n), at); err != nil {
						t.Fatal(err)
					}
				}
				now := start.AddDate(0, 1, 0)
				r := pki.Retention{Certificates: now.AddDate(0, 0, -60), Tokens: now.AddDate(0, 0, -30), History: now.AddDate(-1, 0, 0), UsedIDs: now, Batch: 100}
				for {
					gone, err := s.Purge(t.Context(), r)
					if err != nil {
						t.Fatal(err)
					}
					if len(gone) == 0 {
						break
					}
				}
				if db.Dialect() == SQLite {
					var size int64
					err := db.Read(t.Context(), func(tx *Tx) error {
						return tx.QueryRow("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()").Scan(&size)
					})
					if err != nil {
						t.Fatal(err)
					}
					sizes = append(sizes, size)
				}
			}
			newest, err := s.Newest(t.Context())
			if err != nil || len(newest) != 10 {
				t.Errorf("%d lineages have their newest certificate, %v", len(newest), err)
			}
			left, err := s.Certificates(t.Context())
			if err != nil || len(left) > 10+3*400 {
				t.Errorf("%d certificates are left, %v", len(left), err)
			}
			if len(sizes) > 0 && sizes[11] > sizes[5]+sizes[5]/10 {
				t.Errorf("the file grew from %d to %d bytes in six months: %v", sizes[5], sizes[11], sizes)
			}
		})
	}
}

// What a purge must not touch: the revocation log, a live lineage's newest
// certificate, tokens that are young. And it counts as a change.
func TestPurgeLeavesWhatIsNeeded(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db, from := open(t), time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
			s, all := NewPKI(db, "hcmc"), issued(t, db, "hcmc", 40, from)
			if _, err := s.Revoke(t.Context(), pki.Revocation{Serial: all[0].Serial, Reason: "test", At: from.Add(30 * time.Hour)}); err != nil {
				t.Fatal(err)
			}
			log, err := s.Revocations(t.Context(), 0)
			if err != nil || len(log) != 4 { // all of lineage l-0
				t.Fatalf("%d entries, %v", len(log), err)
			}
			young := pki.Token{Hash: "young", Device: "d-1", Serial: "s", At: time.Now(), Expires: time.Now().Add(time.Minute)}
			old := pki.Token{Hash: "old", Device: "d-2", Serial: "s", At: from, Expires: from.Add(time.Minute)}
			if err := errors.Join(s.AddToken(t.Context(), young), s.AddToken(t.Context(), old)); err != nil {
				t.Fatal(err)
			}
			change := func() (v int64) {
				err := db.Read(t.Context(), func(tx *Tx) error {
					return tx.QueryRow("SELECT value FROM pki_counters WHERE org = ? AND name = ?", "hcmc", certificateChanges).Scan(&v)
				})
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			before, now := change(), time.Now()
			gone, err := s.Purge(t.Context(), pki.Retention{Certificates: now, Tokens: now, History: now, UsedIDs: now, Batch: 1000})
			if err != nil || gone["pki_certificates"] != 31 || gone["pki_tokens"] != 1 || gone["pki_lineages"] != 1 {
				t.Errorf("removed %v, %v; want 31 certificates, one token and the revoked lineage", gone, err)
			}
			if change() <= before {
				t.Error("the removal is no change")
			}
			again, err := s.Revocations(t.Context(), 0)
			if err != nil || !slices.EqualFunc(log, again, func(a, b pki.Revocation) bool { return a.Serial == b.Serial && a.Seq == b.Seq }) {
				t.Errorf("the revocation log is %v, %v", again, err)
			}
			left, err := s.Certificates(t.Context())
			slices.SortFunc(left, func(a, b pki.Certificate) int { return cmp.Compare(a.Serial, b.Serial) })
			if err != nil || len(left) != 9 {
				t.Fatalf("%d left, %v", len(left), err)
			}
			for _, c := range left {
				if !slices.ContainsFunc(all[30:], func(n pki.Certificate) bool { return n.Serial == c.Serial }) {
					t.Errorf("%s is left, which is not the newest of its lineage", c.Serial)
				}
			}
		})
	}
}

func TestQuarantineTakesAPeerAway(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db, now := open(t), time.Now().UTC()
			s := NewPKI(db, "hcmc")
			issued(t, db, "hcmc", 10, now)
			peers := func() (uint64, int) {
				epoch, keys, err := s.Peers(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return epoch, len(keys)
			}
			e0, n0 := peers()
			q := pki.Quarantine{Device: "d-1", Since: now, Reason: "was away"}
			fresh, err := s.Quarantine(t.Context(), []pki.Quarantine{q})
			if err != nil || len(fresh) != 1 {
				t.Fatalf("%v, %v", fresh, err)
			}
			if fresh, err := s.Quarantine(t.Context(), []pki.Quarantine{q}); err != nil || len(fresh) != 0 {
				t.Errorf("twice: %v, %v", fresh, err)
			}
			e1, n1 := peers()
			if e1 <= e0 || n1 != n0-1 {
				t.Errorf("epoch %d after %d, %d peers after %d", e1, e0, n1, n0)
			}
			if list, err := s.Quarantined(t.Context()); err != nil || len(list) != 1 || list[0].Device != "d-1" || list[0].Reason != "was away" {
				t.Errorf("%v, %v", list, err)
			}
			if err := s.Release(t.Context(), pki.Release{Device: "d-1", At: now.Add(time.Hour), By: "an", Reason: "seen"}); err != nil {
				t.Fatal(err)
			}
			e2, n2 := peers()
			if e2 <= e1 || n2 != n0 {
				t.Errorf("after the release epoch %d, %d peers", e2, n2)
			}
			if err := s.Release(t.Context(), pki.Release{Device: "d-1", At: now}); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("released twice: %v", err)
			}
		})
	}
}

func TestBeatsMakeStretches(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s, now := NewPKI(open(t), "hcmc"), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
			for _, minute := range []int{0, 1, 2, 3, 10, 11, 12, 11 /* another replica */, 13} {
				if err := s.Beat(t.Context(), now.Add(time.Duration(minute)*time.Minute), 2*time.Minute); err != nil {
					t.Fatal(err)
				}
			}
			list, err := s.Stretches(t.Context())
			at := func(m int) time.Time { return now.Add(time.Duration(m) * time.Minute) }
			if err != nil || len(list) != 2 || !list[0].Until.Equal(at(3)) || !list[1].From.Equal(at(10)) || !list[1].Until.Equal(at(13)) {
				t.Errorf("%v, %v", list, err)
			}
		})
	}
}

// BenchmarkSearch looks through 100,000 certificates.
func BenchmarkSearch(b *testing.B) {
	db, err := Open(b.Context(), "sqlite://"+b.TempDir()+"/wardnet.db")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	from := time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)
	all := issued(b, db, "hcmc", 100_000, from)
	s, now := NewPKI(db, "hcmc"), all[len(all)-1].IssuedAt
	for name, f := range map[string]pki.Filter{
		"newest":           {},
		"device":           {Device: "d-3"},
		"serial":           {Serial: all[777].Serial},
		"serial-begin":     {Serial: "00a"},
		"valid":            {State: "valid"},
		"expired":          {State: "expired"},
		"revoked":          {State: "revoked"},
		"ends-soon":        {State: "valid", ExpiresBefore: now.Add(24 * time.Hour)},
		"by-and-issuer":    {By: "an", Issuer: pki.Services},
		"nothing-of-issue": {By: "nobody", State: "valid"},
		"deep-page":        {After: pki.Cursor(all[500])},
	} {
		f.Now, f.Limit = now, 100
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Search(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
