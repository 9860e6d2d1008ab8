package controller

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Action is what a plan does to one device.
type Action string

// Actions. A removed device gets no push: its hubs drop its tunnels.
const (
	Create Action = "create"
	Modify Action = "change"
	Remove Action = "remove"
	None   Action = "none"
)

// actions is the closed set, for counts that are present at zero.
var actions = []Action{Create, Modify, Remove, None}

// DevicePlan is what a revision changes on one device.
type DevicePlan struct {
	Device  inventory.DeviceID
	Site    inventory.SiteID
	Action  Action
	Wave    string // of its first push; empty for a removal
	Reasons []string
	Flaps   []string // sessions that it resets
	Changes []string // one line each, "+", "~" or "-" first
	// Staged: a hub whose change both adds and takes away. It is pushed twice,
	// additions before the wards and the whole after them.
	Staged bool
	// Late: a hub whose change only takes away; it is pushed after the wards.
	Late bool
}

// PlannedWave is one step of a plan.
type PlannedWave struct {
	Name    string
	Devices []inventory.DeviceID
	// Additions: the devices get what the revision adds or changes and keep
	// what it takes away; a later wave brings the whole.
	Additions bool `json:",omitempty"`
}

// Plan says what a revision changes, where and in which order. It is a value:
// print it, count it, store it, refuse it.
type Plan struct {
	Revision intent.Number
	Hash     string       // of the revision
	Devices  []DevicePlan // without those that do not change, sorted by id
	Waves    []PlannedWave
	Counts   map[Action]int
	Base     intent.Number // in force everywhere; 0: none
	Sites    int           // touched
	People   int           // blast radius: head count at those sites
	Proof    Proof
	// Drifts are the devices, changed past us, that the revision writes over.
	Drifts []Drift
	// Interims are states between its waves in which sites are cut off.
	Interims []Interim
	// Reachability is what the revision newly lets pass, and newly stops, compared
	// with what is assigned to the devices now; Incomparable says why nothing can
	// be said of it.
	Reachability proof.Difference
	Incomparable string
	// How long it took: compiling and comparing, proving, all of it. What was
	// compiled or proven before takes no time.
	Compiled, Proven, Took time.Duration
}

// MakePlan compares what is in force per device with what to asks for, without
// the proof. It is pure. An unchanged device is in no wave and is never pushed.
func MakePlan(inForce map[inventory.DeviceID]Want, to *Compiled) Plan {
	p := Plan{Revision: to.Revision, Hash: to.Hash, Counts: map[Action]int{}}
	for _, a := range actions {
		p.Counts[a] = 0
	}
	touched := map[inventory.SiteID]bool{}
	var filled []*DevicePlan
	var fills errgroup.Group // what a hub changes takes long to say
	for _, id := range slices.Sorted(maps.Keys(union(inForce, to.Devices))) {
		have, had := inForce[id]
		want, wanted := to.Devices[id]
		d := &DevicePlan{Device: id, Site: want.Config.Site, Action: Modify}
		switch {
		case !wanted:
			d.Action, d.Site = Remove, have.Config.Site
			d.Reasons = []string{"the device leaves the intent; its hubs drop its tunnels"}
		case had && have.Hash == want.Hash:
			p.Counts[None]++
			continue
		default:
			if !had {
				d.Action = Create
			}
			fills.Go(func() error { d.fill(have, had, want); return nil })
		}
		p.Counts[d.Action]++
		touched[d.Site] = true
		filled = append(filled, d)
	}
	_ = fills.Wait()
	for _, d := range filled {
		p.Devices = append(p.Devices, *d)
	}
	p.Waves = makeWaves(p.Devices, to)
	first := map[inventory.DeviceID]string{}
	for _, w := range p.Waves {
		for _, id := range w.Devices {
			if first[id] == "" {
				first[id] = w.Name
			}
		}
	}
	for i := range p.Devices {
		p.Devices[i].Wave = first[p.Devices[i].Device]
	}
	p.Sites = len(touched)
	for _, s := range to.Content.Sites {
		if touched[s.ID] {
			p.People += s.People
		}
	}
	return p
}

// fill explains a device that is pushed.
func (d *DevicePlan) fill(have Want, had bool, want Want) {
	change := edge.Diff(have.Config, want.Config)
	for _, op := range change {
		d.Changes = append(d.Changes, op.String())
	}
	if !had {
		d.Reasons = []string{"first configuration"}
		return
	}
	if want.Config.Role == inventory.RoleHub {
		d.Late, d.Staged = stages(have, want)
	}
	d.Flaps = change.Flaps()
	d.Reasons = []string{change.Summary()}
	switch {
	case d.Staged:
		d.Reasons = append(d.Reasons, "additions before the wards, removals after them")
	case d.Late:
		d.Reasons = append(d.Reasons, "only takes away: after the wards")
	}
}

// keepOld gives want with everything of old that want drops: tunnels with
// their sessions, uplinks, originated networks, and what rules let pass. It is the
// additions stage of a hub. Nothing old is taken away by it.
func keepOld(want, old edge.Config) edge.Config {
	want.Circuits = merge(want.Circuits, old.Circuits, func(c edge.Circuit) string { return c.Name })
	want.Tunnels = merge(want.Tunnels, old.Tunnels, func(t edge.Tunnel) string { return t.Name })
	want.BGP.Neighbours = merge(want.BGP.Neighbours, old.BGP.Neighbours, func(n edge.Neighbour) string { return n.Tunnel })
	want.BGP.Networks = sortPrefixes(slices.Concat(want.BGP.Networks, old.BGP.Networks))
	want.Uplinks = merge(want.Uplinks, old.Uplinks, func(u edge.Uplink) string { return u.Name })
	want.Segments = merge(want.Segments, old.Segments, func(s edge.Segment) string { return string(s.Kind) })
	want.Rules = mergeRules(want.Rules, old.Rules)
	return want
}

// merge adds to want the elements of old whose name want lacks, in name order.
func merge[T any](want, old []T, name func(T) string) []T {
	known := make(map[string]bool, len(want))
	for _, w := range want {
		known[name(w)] = true
	}
	out := slices.Clone(want)
	for _, o := range old {
		if !known[name(o)] {
			out = append(out, o)
		}
	}
	slices.SortStableFunc(out, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	return out
}

// mergeRules keeps what old let pass. The wider of two rules of one permit
// stands for both. An old rule that the new one of the same
// permit does not cover is kept beside it under a permit id with "~" behind it,
// for joining their sources and destinations would let more pass than either.
func mergeRules(want, old []edge.Rule) []edge.Rule {
	type key struct {
		permit inventory.PermitID
		from   inventory.SegmentKind
	}
	byKey := make(map[key]edge.Rule, len(want))
	for _, r := range want {
		byKey[key{r.Permit, r.From}] = r
	}
	out := slices.Clone(want)
	for _, r := range old {
		if w, ok := byKey[key{r.Permit, r.From}]; ok && covers(r, w) {
			i := slices.IndexFunc(out, func(o edge.Rule) bool { return o.Permit == r.Permit && o.From == r.From })
			out[i] = r
			continue
		}
		covered := false
		for {
			w, taken := byKey[key{r.Permit, r.From}]
			if covered = taken && covers(w, r); covered || !taken {
				break
			}
			r.Permit += "~"
		}
		if !covered {
			byKey[key{r.Permit, r.From}] = r
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b edge.Rule) int {
		return cmp.Or(cmp.Compare(a.Permit, b.Permit), cmp.Compare(a.From, b.From))
	})
	return out
}

// covers says whether everything r lets pass, w lets pass as well. On the way
// to the internet no destination means all of it and no port means all ports,
// which no list of either covers.
func covers(w, r edge.Rule) bool {
	if w.Internet != r.Internet || !containsAll(w.Src, r.Src) || !containsAll(w.Dst, r.Dst) {
		return false
	}
	if len(w.Ports) == 0 || len(r.Ports) == 0 {
		return len(w.Ports) == 0 && (w.Internet || len(r.Ports) == 0)
	}
	return containsAll(w.Ports, r.Ports)
}

func containsAll[T comparable](all, some []T) bool {
	if slices.Equal(all, some) {
		return true // as most are, and a hub's are long
	}
	set := make(map[T]bool, len(all))
	for _, e := range all {
		set[e] = true
	}
	return !slices.ContainsFunc(some, func(e T) bool { return !set[e] })
}

func union[A, B any](a map[inventory.DeviceID]A, b map[inventory.DeviceID]B) map[inventory.DeviceID]bool {
	out := make(map[inventory.DeviceID]bool, len(a)+len(b))
	for id := range a {
		out[id] = true
	}
	for id := range b {
		out[id] = true
	}
	return out
}
