package impair

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair/forward"
	"github.com/wardnet/wardnet/labs/netlab"
)

// town is two carriers, a hub and two wards as a lab plumbs them.
func town() netlab.Topology {
	link := func(kind netlab.LinkKind, name, box, far, port string) netlab.Link {
		return netlab.Link{Kind: kind, Name: name, A: netlab.End{NS: box, Port: "x"}, B: netlab.End{NS: far, Port: port}}
	}
	return netlab.Topology{
		Prefix:   "t",
		Carriers: []netlab.Carrier{{ID: "vnpt", NS: "t-c-vnpt"}, {ID: "fpt", NS: "t-c-fpt"}},
		Sites:    []netlab.Site{{ID: "hub-1", Role: inventory.RoleHub, NS: "t-hub-1"}, {ID: "s-1", Role: inventory.RoleEdge, NS: "t-s-1"}, {ID: "s-2", Role: inventory.RoleEdge, NS: "t-s-2"}},
		Links: []netlab.Link{
			link(netlab.LinkCircuit, "c-hub", "t-hub-1", "t-c-vnpt", "hub-1.0"),
			link(netlab.LinkCircuit, "c-1-1", "t-s-1", "t-c-vnpt", "s-1.0"),
			link(netlab.LinkCircuit, "c-1-2", "t-s-1", "t-c-fpt", "s-1.1"),
			link(netlab.LinkCircuit, "c-2-1", "t-s-2", "t-c-vnpt", "s-2.0"),
			link(netlab.LinkSegment, "s-1/staff", "t-s-1", "t-s-1-staff", "eth0"),
			link(netlab.LinkUplink, "hub-1/dc", "t-hub-1", "t-dc", "hub-1"),
		},
	}
}

func TestPortsOfATarget(t *testing.T) {
	for name, tt := range map[string]struct {
		target Target
		want   []string
		err    error
	}{
		"circuit":          {Target{Circuit: "c-1-2"}, []string{"t-c-fpt/s-1.1"}, nil},
		"carrier":          {Target{Carrier: "vnpt"}, []string{"t-c-vnpt/hub-1.0", "t-c-vnpt/s-1.0", "t-c-vnpt/s-2.0"}, nil},
		"carrier at wards": {Target{Carrier: "vnpt", Wards: []inventory.SiteID{"s-2"}}, []string{"t-c-vnpt/s-2.0"}, nil},
		"hub":              {Target{Hub: "hub-1"}, []string{"t-c-vnpt/hub-1.0", "t-dc/hub-1"}, nil},
		"ward":             {Target{Ward: "s-1"}, []string{"t-c-vnpt/s-1.0", "t-c-fpt/s-1.1"}, nil},
		"a ward as a hub":  {Target{Hub: "s-1"}, nil, inventory.ErrNotFound},
		"unknown circuit":  {Target{Circuit: "c-9"}, nil, inventory.ErrNotFound},
		"unknown carrier":  {Target{Carrier: "x"}, nil, inventory.ErrNotFound},
		"nothing":          {Target{}, nil, inventory.ErrInvalid},
		"two things":       {Target{Circuit: "c-1-1", Hub: "hub-1"}, nil, inventory.ErrInvalid},
		"wards alone":      {Target{Wards: []inventory.SiteID{"s-1"}}, nil, inventory.ErrInvalid},
	} {
		ports, err := Ports(town(), tt.target)
		var got []string
		for _, p := range ports {
			got = append(got, p.Namespace+"/"+p.Name)
		}
		if !slices.Equal(got, tt.want) || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %v; want %v, %v", name, got, err, tt.want, tt.err)
		}
		if tt.err == nil && tt.target.String() == "" {
			t.Errorf("%s has no name", name)
		}
	}
}

func TestFilterText(t *testing.T) {
	p := forward.Port{Namespace: "n", Name: "s-1.0"}
	far := forward.Port{Namespace: "m", Name: "s-2.0"}
	text := filterText("n", []Fault{
		{Kind: Silence, Ports: []forward.Port{p, far}},
		{Kind: Loss, LossRatio: 0.05, Ports: []forward.Port{p}},
		{Kind: Down, Ports: []forward.Port{p}},
	})
	for _, want := range []string{`iifname { "s-1.0", "` + p.Shadow() + `" } counter drop`, `oifname { "s-1.0"`, "numgen random mod 100000 < 5000 counter drop", "delete table inet wardnet_fault"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "s-2.0") {
		t.Errorf("a port of another namespace in\n%s", text)
	}
	if text := filterText("n", nil); strings.Contains(text, "chain") {
		t.Errorf("no faults leave\n%s", text)
	}
}

func TestShapesAddUp(t *testing.T) {
	p := forward.Port{Namespace: "n", Name: "x"}
	got := shapes([]Fault{
		{Kind: Slow, DelayMS: 20, RateBPS: 8, Ports: []forward.Port{p}},
		{Kind: Slow, DelayMS: 5, JitterMS: 1, RateBPS: 4, Ports: []forward.Port{p}},
		{Kind: Loss, LossRatio: 1, Ports: []forward.Port{p}},
	})[p]
	if got.DelayMS != 25 || got.JitterMS != 1 || got.RateBPS != 4 {
		t.Errorf("%+v", got)
	}
}

func newBench(t *testing.T, p Processes) *Bench {
	t.Helper()
	b, err := New(Deps{Dir: t.TempDir(), Wardnet: "/nowhere", Processes: p})
	switch {
	case errors.Is(err, inventory.ErrNotFound): // nft is
		t.Skipf("SKIPPED ALOUD: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	return b
}

func TestMakeRefuses(t *testing.T) {
	b := newBench(t, nil)
	port := []forward.Port{{Namespace: "n", Name: "x"}}
	for name, f := range map[string]Fault{
		"no target":       {Kind: Silence, Ports: port},
		"no port":         {Kind: Silence, Target: "x"},
		"unknown kind":    {Kind: "melt", Target: "x", Ports: port},
		"no loss":         {Kind: Loss, Target: "x", Ports: port},
		"more than all":   {Kind: Loss, Target: "x", Ports: port, LossRatio: 1.5},
		"no delay":        {Kind: Slow, Target: "x", Ports: port},
		"too much jitter": {Kind: Slow, Target: "x", Ports: port, DelayMS: 1, JitterMS: 9},
		"no process":      {Kind: Killed, Target: "x"},
	} {
		if err := b.Make(t.Context(), f); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Make(t.Context(), Fault{Kind: Killed, Target: "x", Process: "controller"}); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("killing what does not run: %v", err)
	}
	if list, err := b.List(); err != nil || len(list) != 0 {
		t.Errorf("refused faults are journalled: %v, %v", list, err)
	}
}

func TestOnMatches(t *testing.T) {
	for name, tt := range map[string]struct {
		t    Target
		f    Fault
		want bool
	}{
		"same":                     {Target{Circuit: "c-1"}, Fault{Target: "circuit c-1"}, true},
		"longer name":              {Target{Circuit: "c-1"}, Fault{Target: "circuit c-12"}, false},
		"a carrier at some wards":  {Target{Carrier: "vnpt"}, Fault{Target: "carrier vnpt at s-1"}, true},
		"a ward's process":         {Target{Ward: "s-1"}, Fault{Target: "wg s-1", Process: "wg s-1"}, true},
		"a hub's process":          {Target{Hub: "hub-1"}, Fault{Target: "agent hub-1", Process: "agent hub-1"}, true},
		"another ward's":           {Target{Ward: "s-1"}, Fault{Target: "wg s-2", Process: "wg s-2"}, false},
		"the controller":           {Target{Controller: true}, Fault{Target: "controller", Process: "controller"}, true},
		"the controller is no one": {Target{Circuit: "c-1"}, Fault{Target: "controller", Process: "controller"}, false},
	} {
		if got := On(tt.t)(tt.f); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A fault is in the journal before it is made, and a heal by another process,
// or in a lab that has gone, empties it.
func TestTheJournalOutlivesUs(t *testing.T) {
	b := newBench(t, nil)
	f := Fault{Kind: Silence, Target: "circuit c-1", Ports: []forward.Port{{Namespace: "w7-not-there", Name: "x"}}}
	if err := b.Make(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := b.Make(t.Context(), f); err != nil { // again: replaced
		t.Fatal(err)
	}
	other := *b
	list, err := other.List()
	if err != nil || len(list) != 1 || list[0].Target != f.Target || list[0].At.IsZero() {
		t.Fatalf("%v, %v", list, err)
	}
	if healed, err := other.Heal(t.Context(), On(Target{Circuit: "c-2"})); err != nil || len(healed) != 0 {
		t.Errorf("%v, %v", healed, err)
	}
	if healed, err := other.Heal(t.Context(), On(Target{Circuit: "c-1"})); err != nil || len(healed) != 1 {
		t.Errorf("%v, %v", healed, err)
	}
	if list, err := b.List(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if err := os.WriteFile(filepath.Join(b.deps.Dir, "faults.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.List(); err == nil {
		t.Error("half a journal is read")
	}
}
