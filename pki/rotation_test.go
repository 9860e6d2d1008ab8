package pki

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

// rank is the order of the states of one generation: it is never gone back.
var rank = map[IssuerState]int{Staged: 0, Published: 1, Active: 2, Draining: 3, Retired: 4, Distrusted: 4}

// Whatever steps are taken in whatever order, refused or not: exactly one
// generation issues, states only go forward, at most one generation is on its
// way in, and what ended is never accepted again.
func TestRotationStateMachine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		list := []Generation{{Issuer: Devices, Number: 1, State: Active, Certificate: "c", ActiveAt: now}}
		apply := func(moves []Move) {
			for _, m := range moves {
				i := slices.IndexFunc(list, func(g Generation) bool { return g.Number == m.Number })
				if i < 0 || list[i].State != m.From {
					rt.Fatalf("move %+v of %+v", m, list)
				}
				if rank[m.To] <= rank[m.From] {
					rt.Fatalf("%+v goes back", m)
				}
				list[i].State = m.To
				if m.To == Published {
					list[i].PublishedAt = now
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"start": func(rt *rapid.T) {
				n, err := planStart(list)
				if err != nil {
					if !errors.Is(err, inventory.ErrConflict) {
						rt.Fatal(err)
					}
					return
				}
				cert := rapid.SampledFrom([]string{"", "c"}).Draw(rt, "certificate")
				list = append(list, Generation{Issuer: Devices, Number: n, State: Staged, Certificate: cert})
			},
			"certify": func(*rapid.T) {
				for i := range list {
					list[i].Certificate = "c"
				}
			},
			"wait": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 10).Draw(rt, "seconds")) * time.Second)
			},
			"next": func(rt *rapid.T) {
				c := circumstances{now: now, behind: rapid.IntRange(0, 2).Draw(rt, "behind"), force: rapid.Bool().Draw(rt, "force")}
				step, moves, err := planNext(list, c)
				if err != nil {
					if !errors.Is(err, ErrHeld) && !errors.Is(err, inventory.ErrConflict) {
						rt.Fatal(err)
					}
					return
				}
				if c.behind > 0 && !c.force && step != PublishStep {
					rt.Fatalf("%s cut %d off", step, c.behind)
				}
				apply(moves)
			},
			"abort": func(*rapid.T) {
				if moves, err := planAbort(list); err == nil {
					apply(moves)
				}
			},
			"distrust": func(rt *rapid.T) {
				if moves, err := planDistrust(list, rapid.IntRange(1, len(list)).Draw(rt, "chosen")); err == nil {
					apply(moves)
				}
			},
			"": func(rt *rapid.T) {
				active, coming := 0, 0
				for i, g := range list {
					if g.State == Active {
						active++
						if g.Certificate == "" {
							rt.Fatalf("generation %d issues without a certificate", g.Number)
						}
					}
					if g.State == Staged || g.State == Published {
						coming++
					}
					if g.Number != i+1 {
						rt.Fatalf("numbers %+v", list)
					}
				}
				if active != 1 || coming > 1 {
					rt.Fatalf("%d active, %d coming: %+v", active, coming, list)
				}
			},
		})
	})
}

func TestDrillTimeline(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	g := Generation{KeyID: "old", EndedAt: at}
	leaf := func(device inventory.DeviceID, key string, seconds int) Leaf {
		return Leaf{Device: device, IssuerKey: key, IssuedAt: at.Add(time.Duration(seconds) * time.Second), NotAfter: at.Add(time.Hour)}
	}
	gone := leaf("e-5", "old", -9)
	gone.RevokedAt = at.Add(-time.Second)
	d := drill([]Leaf{
		leaf("e-1", "old", -9), leaf("e-2", "old", -8), leaf("e-3", "old", -7), leaf("e-4", "old", -6), gone,
		leaf("e-2", "new", 2), leaf("e-1", "new", 4), leaf("e-1", "new", 5), leaf("e-3", "new", 9), leaf("e-9", "new", 1),
	}, g)
	want := Drill{Affected: 4, Rekeyed: 3, First: 2 * time.Second, Half: 4 * time.Second, Remaining: []string{"e-4"}}
	if d.Affected != want.Affected || d.Rekeyed != want.Rekeyed || d.First != want.First || d.Half != want.Half || d.P95 != 0 || d.Last != 0 || !slices.Equal(d.Remaining, want.Remaining) {
		t.Errorf("drill() = %+v, want %+v", d, want)
	}
}
