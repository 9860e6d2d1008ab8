package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

func (n *network) Routers(context.Context) (out []client.Router, err error) {
	err = n.read(func() { out = slices.Clone(n.routers) })
	return out, err
}

type drifts struct{ *network }

func (d drifts) Drifts(context.Context) (out []client.Drift, err error) {
	err = d.read(func() { out = slices.Clone(d.drifted) })
	return out, err
}

func (d drifts) Drift(ctx context.Context, id string) (client.Drift, error) {
	all, err := d.Drifts(ctx)
	if i := slices.IndexFunc(all, func(x client.Drift) bool { return x.ID == id }); i >= 0 {
		return all[i], err
	}
	return client.Drift{}, fmt.Errorf("drift %q: %w", id, inventory.ErrNotFound)
}

func (d drifts) decide(id, state string, why client.DriftDecision, by string) (client.Drift, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.drifted, func(x client.Drift) bool { return x.ID == id })
	d.drifted[i].State, d.drifted[i].By, d.drifted[i].Reason, d.drifted[i].Until = state, by, why.Reason, why.Until
	return d.drifted[i], nil
}

func (d drifts) RevertDrift(_ context.Context, id string, why client.DriftDecision, by string) (client.Drift, error) {
	return d.decide(id, "returning", why, by)
}

func (d drifts) WaiveDrift(_ context.Context, id string, why client.DriftDecision, by string) (client.Drift, error) {
	return d.decide(id, "waived", why, by)
}

func (d drifts) AdoptDrift(_ context.Context, id string, why client.DriftDecision, by string) (client.Drift, error) {
	return d.decide(id, "adopting", why, by)
}

func (r revisions) Baskets(context.Context) (out []intent.Basket, err error) {
	err = r.read(func() { out = []intent.Basket{r.basket.Basket} })
	return out, err
}

func (r revisions) Basket(context.Context, string) (client.BasketView, error) { return r.basket, nil }

func (r revisions) ActOnBasket(_ context.Context, id, _ string, what client.BasketAction, by string) (client.BasketView, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &r.network.basket
	b.ID, b.State, b.Version = id, intent.BasketOpen, b.Version+1
	for _, e := range what.Edits {
		b.Edits = append(slices.Clone(b.Edits), intent.Entry{Edit: e, By: by})
	}
	return *b, nil
}

// A page that is open hears of a drift, of a router and of a basket, as long as
// its person may read them.
func TestControlIsTold(t *testing.T) {
	s := newSite(t)
	s.net.routers = []client.Router{{Router: inventory.Router{ID: "r-1"}}}
	s.net.drifted = []client.Drift{{ID: "f-1", Device: "r-1", State: "open", Changes: []string{"~ bgp"}}}
	eng, adm := s.user("eng", client.RoleEngineer), s.user("adm", client.RoleAdmin)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	deaf := make(chan error, 1)
	go func() { // an administrator of people hears of none of it
		deaf <- adm.Events(ctx, func(e client.Event) error {
			if e.Type != "summary" {
				return fmt.Errorf("an administrator is told of a %s", e.Type)
			}
			return nil
		})
	}()
	got, begun := map[string]string{}, false
	err := eng.Events(ctx, func(e client.Event) error {
		if e.Type == "summary" && !begun { // connected: now change everything
			begun = true
			s.net.mu.Lock()
			s.net.routers[0].Outcome = "held"
			s.net.mu.Unlock()
			if _, err := eng.DecideDrift(ctx, "f-1", "revert", client.DriftDecision{Reason: "nobody ordered it"}); err != nil {
				return err
			}
			if _, err := eng.ActOnBasket(ctx, "b-1", "add", client.BasketAction{Edits: []inventory.Edit{{Noun: "sites", ID: "s-1", Now: json.RawMessage(`{}`)}}}); err != nil {
				return err
			}
		}
		if e.Type == "router" || e.Type == "drift" || e.Type == "basket" {
			got[e.Type] = string(e.Data)
		}
		if len(got) == 3 {
			return context.Canceled
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v after %v", err, got)
	}
	for kind, want := range map[string]string{"router": `"outcome":"held"`, "drift": `"state":"returning"`, "basket": `"version":1`} {
		if !strings.Contains(got[kind], want) {
			t.Errorf("%s event %s, want %s in it", kind, got[kind], want)
		}
	}
	if strings.Contains(got["basket"], "edits") {
		t.Errorf("the news of a basket carries its edits: %s", got["basket"])
	}
	cancel()
	if err := <-deaf; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestDriftsAndBasketsInShort(t *testing.T) {
	s := newSite(t)
	for i := range 5 {
		s.net.drifted = append(s.net.drifted, client.Drift{ID: fmt.Sprint("f-", 9-i), Device: inventory.DeviceID(fmt.Sprint("d-", i%2)), State: "returned"})
	}
	s.net.drifted[4].State = "waived"
	s.net.basket.Edits = []intent.Entry{{Edit: inventory.Edit{Noun: "sites", ID: "s-1", Was: json.RawMessage(`{"id":"s-1"}`), Now: json.RawMessage(`{"id":"s-1"}`)}, By: "an"}}
	tok, err := s.user("noc", client.RoleNOC).CreateToken(t.Context(), client.NewToken{Name: "t", Scopes: []client.Role{client.RoleNOC}, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/drifts": "f-9 f-8 f-7 f-6 f-5", "/drifts?over=2": "f-9 f-8 f-5", "/drifts?device=d-1": "f-8 f-6", "/drifts?device=d-0&over=1": "f-9 f-5"} {
		var got []client.Drift
		s.readAs(tok.Secret, path, &got)
		ids := make([]string, len(got))
		for i, d := range got {
			ids[i] = d.ID
		}
		if strings.Join(ids, " ") != want {
			t.Errorf("%s gives %s, want %s", path, ids, want)
		}
	}
	var brief, full []intent.Basket
	s.readAs(tok.Secret, "/baskets?brief=true", &brief)
	s.readAs(tok.Secret, "/baskets", &full)
	if e := brief[0].Edits[0]; e.Was != nil || e.Now != nil || e.By != "an" || full[0].Edits[0].Now == nil {
		t.Errorf("brief %+v, full %+v", brief, full)
	}
	var routers []client.Router
	if s.readAs(tok.Secret, "/routers", &routers); routers == nil {
		t.Error("no routers are null, not []")
	}
}

// readAs reads a path of the API with a token.
func (s *site) readAs(token, path string, into any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.srv.URL+Prefix+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := s.srv.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s, %v", path, res.Status, err)
	}
}

// What waits for a person, and what was told before, is always among the newest.
func TestNewestDrifts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states := []string{"open", "waived", "adopting", "returning", "returned", "adopted", "overwritten", "gone"}
		var all []client.Drift
		told := map[string]string{}
		for i := range rapid.IntRange(0, 12).Draw(t, "n") {
			d := client.Drift{ID: fmt.Sprint(i), State: rapid.SampledFrom(states).Draw(t, "state")}
			if all = append(all, d); rapid.IntRange(0, 4).Draw(t, "told") == 0 {
				told[d.ID] = ""
			}
		}
		most := rapid.IntRange(0, 5).Draw(t, "over")
		got := newest(all, most, told)
		over := 0
		for i, d := range all { // by hand
			_, before := told[d.ID]
			want := before || slices.Index(states, d.State) < 4
			if !want {
				over++
				want = over <= most
			}
			if has := slices.ContainsFunc(got, func(x client.Drift) bool { return x.ID == all[i].ID }); has != want {
				t.Fatalf("%+v is in: %v, want %v", d, has, want)
			}
		}
		if !slices.IsSortedFunc(got, func(a, b client.Drift) int {
			return slices.IndexFunc(all, func(x client.Drift) bool { return x.ID == a.ID }) - slices.IndexFunc(all, func(x client.Drift) bool { return x.ID == b.ID })
		}) {
			t.Fatalf("another order: %+v", got)
		}
	})
}

func TestDriftsAreReadAgainWhenTheyMayDiffer(t *testing.T) {
	now := time.Now()
	once := map[inventory.DeviceID]int{"d-1": 1}
	for name, tt := range map[string]struct {
		book *DriftBook
		seen map[inventory.DeviceID]int
		want bool
	}{
		"never read":          {&DriftBook{}, map[inventory.DeviceID]int{}, false},
		"nothing since":       {&DriftBook{at: now, seen: once, read: []client.Drift{{State: "returned"}}}, once, true},
		"drifted again":       {&DriftBook{at: now, seen: once, read: []client.Drift{{State: "returned"}}}, map[inventory.DeviceID]int{"d-1": 2}, false},
		"another has drifted": {&DriftBook{at: now, seen: once}, map[inventory.DeviceID]int{"d-2": 1}, false},
		"one is not over":     {&DriftBook{at: now, seen: once, read: []client.Drift{{State: "gone"}, {State: "waived"}}}, once, false},
		"long ago":            {&DriftBook{at: now.Add(-driftAge), seen: once}, once, false},
	} {
		if got := tt.book.still(tt.seen, now); got != tt.want {
			t.Errorf("%s: holds %v", name, got)
		}
	}
}

func TestRouterView(t *testing.T) {
	r := inventory.Router{ID: "r-1", Intended: inventory.InService}
	planned := r
	planned.Intended = inventory.Planned
	good := controller.Status{Target: controller.Target{Revision: 3}, Want: "h", Hash: "h", Revision: 3, Online: true, Outcome: "same"}
	adrift, away := good, good
	adrift.Hash, adrift.Outcome, adrift.Error = "x", "held", "held: drift 1"
	away.Online, away.Outcome = false, "offline"
	for name, tt := range map[string]struct {
		router inventory.Router
		status controller.Status
		want   client.DeviceState
	}{
		"nothing assigned": {r, controller.Status{}, client.StatePlanned},
		"planned":          {planned, good, client.StatePlanned},
		"well":             {r, good, client.StateOK},
		"adrift":           {r, adrift, client.StateDegraded},
		"away":             {r, away, client.StateDown},
	} {
		v := routerView(tt.router, tt.status)
		if v.State != tt.want || v.Outcome != tt.status.Outcome || v.Error != tt.status.Error || v.ID != "r-1" {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
