package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// fragile is a town whose cameras must survive what a site with one circuit does
// not.
func fragile() inventory.Inventory {
	inv := town(2)
	site := inv.Sites[slices.IndexFunc(inv.Sites, func(s inventory.Site) bool { return s.Kind != inventory.Hub })].ID
	had := false
	inv.Circuits = slices.DeleteFunc(inv.Circuits, func(c inventory.Circuit) bool {
		more := had && c.Site == site
		had = had || c.Site == site
		return more
	})
	for i := range inv.Permits {
		if inv.Permits[i].ID == "p-camera" {
			inv.Permits[i].Resilience = []inventory.Resilience{inventory.SurvivesCircuit}
		}
	}
	return inv
}

// waivers are those of a test.
type waivers struct{ all []intent.Waiver }

func (w *waivers) WaiversOf(context.Context, intent.Number) ([]intent.Waiver, error) {
	return w.all, nil
}

// A revision that does not do what its intent says goes out with a waiver only,
// and no wave begins once that has ended.
func TestUnprovenRevisionNeedsAWaiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fragile())
		given := &waivers{}
		l := w.start(Config{})
		l.deps.Waivers = given
		defer l.end()
		_, err := l.StartRollout(t.Context(), 1, "lan")
		var refused *UnprovenError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "permit p-camera") || !strings.Contains(err.Error(), "circuit is down") {
			t.Fatalf("StartRollout() = %v, want an UnprovenError that names the permit and the failure", err)
		}
		plan, err := l.Plan(t.Context(), 1)
		if err != nil || plan.Proof.Holds || len(plan.Proof.Findings()) == 0 {
			t.Errorf("Plan() = %+v, %v", plan.Proof, err)
		}
		given.all = []intent.Waiver{{Revision: 1, Hash: "another", By: "minh", Until: time.Now().Add(time.Hour)}}
		if _, err := l.StartRollout(t.Context(), 1, "lan"); !errors.As(err, &refused) || !strings.Contains(err.Error(), "the waiver by minh names revision 1 (another)") {
			t.Errorf("with a waiver of other content: %v", err)
		}
		given.all = append(given.all, intent.Waiver{Revision: 1, Hash: w.revisions[1].Hash, By: "minh", Finding: "cameras", Until: time.Now().Add(time.Hour)})
		r, err := l.StartRollout(t.Context(), 1, "lan")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Pause(t.Context(), r.ID, "lan"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour) // the waiver ends
		if _, err := l.Resume(t.Context(), r.ID, "lan"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if r = l.wait(1, time.Minute, RolloutPaused); !strings.Contains(r.Reason, "the waiver by minh ended") {
			t.Errorf("paused for %q", r.Reason)
		}
		given.all[1].Until = time.Now().Add(time.Hour)
		if _, err := l.Resume(t.Context(), r.ID, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, 5*time.Minute, RolloutDone)
		time.Sleep(2 * time.Hour) // and again, with the revision in force
		ended := 0
		for _, what := range w.told() {
			if what == "proof.waiver-ended" {
				ended++
			}
		}
		if ended != 1 {
			t.Errorf("the end was reported %d times: %v", ended, w.told())
		}
	})
}

// What a plan newly lets pass and stops is told by segment, service and sites.
func TestPlanTellsWhatItLetsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, now := town(3), town(3)
		for i := range now.Permits {
			if p := &now.Permits[i]; p.ToSeg != "" {
				p.Ports = append([]inventory.PortRange{{Proto: inventory.TCP, From: 7777, To: 7777}}, p.Ports[1:]...)
			}
		}
		w := newWorld(t, old, now)
		l := w.start(Config{})
		defer l.end()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, 5*time.Minute, RolloutDone)
		p, err := l.Plan(t.Context(), 2)
		if err != nil || p.Incomparable != "" {
			t.Fatalf("%v, %s", err, p.Incomparable)
		}
		var allows, denies []string
		for _, f := range p.Reachability.Allows {
			allows = append(allows, f.Services)
		}
		for _, f := range p.Reachability.Denies {
			denies = append(denies, f.Services)
		}
		if len(allows) == 0 || len(denies) == 0 || strings.ReplaceAll(strings.Join(allows, ""), "TCP 7777", "") != "" || strings.Contains(strings.Join(denies, ""), "7777") {
			t.Errorf("allows %v, denies %v", allows, denies)
		}
		for _, f := range p.Reachability.Allows {
			if f.FromSites == 0 || !f.Src.IsValid() || !f.Dst.IsValid() || f.From == "" {
				t.Errorf("%+v", f)
			}
		}
		same, err := l.Plan(t.Context(), 1)
		if err != nil || len(same.Reachability.Allows)+len(same.Reachability.Denies) > 0 {
			t.Errorf("the revision in force: %+v, %v", same.Reachability, err)
		}
	})
}
