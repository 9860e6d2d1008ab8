package store

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// Whatever is recorded, revoked and purged, in any order: a look that sees
// another list of certificates than an earlier one sees another mark, too, for
// as long as what differs is more than rows that were purged.
func TestMarkTellsOfEveryCertificate(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db, stories := open(t), 0
			rapid.Check(t, func(rt *rapid.T) {
				stories++
				s, ctx := NewPKI(db, inventory.OrgID(fmt.Sprint("org-", stories))), t.Context()
				now := time.Now()
				var serials []string
				given := map[string]bool{}
				mark := func() string {
					m, err := s.Mark(ctx)
					if err != nil {
						rt.Fatal(err)
					}
					return m
				}
				last := mark()
				given[last] = true
				for n := range rapid.IntRange(1, 12).Draw(rt, "steps") {
					changed := true
					switch do := rapid.SampledFrom([]string{"record", "record", "revoke", "purge", "purge and record"}).Draw(rt, "do"); do {
					case "revoke":
						if len(serials) == 0 {
							continue
						}
						out, err := s.Revoke(ctx, pki.Revocation{Serial: rapid.SampledFrom(serials).Draw(rt, "serial"), By: "an", At: now})
						if err != nil {
							rt.Fatal(err)
						}
						changed = len(out) > 0
					default:
						if do != "record" && len(serials) > 0 { // the oldest, as on schedule
							err := db.Write(ctx, func(tx *Tx) error {
								_, err := tx.Exec("DELETE FROM pki_certificates WHERE org = ? AND serial = ?", s.org, serials[0])
								return err
							})
							if err != nil {
								rt.Fatal(err)
							}
							serials = serials[1:]
						}
						if changed = do != "purge"; !changed {
							break
						}
						serial := fmt.Sprintf("%d-%d", stories, n)
						err := s.AddCertificate(ctx, pki.Certificate{Serial: serial, Issuer: pki.Devices, CSRHash: serial, Device: "d-1", NotAfter: now.Add(time.Hour), IssuedAt: now})
						if err != nil {
							rt.Fatal(err)
						}
						serials = append(serials, serial)
					}
					m := mark()
					if changed && given[m] {
						rt.Fatalf("mark %s was given before", m)
					}
					if !changed && m != last {
						rt.Fatalf("mark %s instead of %s, though nothing was recorded or revoked", m, last)
					}
					given[m], last = true, m
				}
			})
		})
	}
}
