package incident_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/telemetry"
)

// world is a city in small: it knows what is cut, and each device tells what
// it sees, late, in any order, and only while it has a session.
type world struct {
	inv     inventory.Inventory
	rng     *rand.Rand
	now     time.Time
	cut     map[inventory.CircuitID]bool
	silent  bool // a cut circuit keeps its link: only the tunnels tell
	off     map[inventory.SiteID]bool
	at      map[inventory.SiteID][]inventory.CircuitID
	boxes   []*box
	out     []telemetry.Sample
	tunnels map[string]*link
	slow    time.Duration // most that the loss of a session takes to be seen
}

type link struct {
	circuit inventory.CircuitID
	edge    inventory.DeviceID
	hub     inventory.DeviceID
	peer    [2]string // neighbour's address as the edge and as the hub see it
}

// box is one device with its session.
type box struct {
	id       inventory.DeviceID
	site     inventory.SiteID
	session  bool
	over     inventory.CircuitID // the session's circuit
	changeAt time.Time           // when the session's state changes next; zero: it does not
	sights   []sight
	told     map[string]float64
	pending  map[string]time.Time
}

func newWorld(rng *rand.Rand, sites int) *world {
	w := &world{
		rng: rng, now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC), cut: map[inventory.CircuitID]bool{},
		off: map[inventory.SiteID]bool{}, at: map[inventory.SiteID][]inventory.CircuitID{}, tunnels: map[string]*link{}, slow: 20 * time.Second,
	}
	w.inv.Carriers = []inventory.Carrier{{ID: "vnpt", Name: "VNPT"}, {ID: "viettel", Name: "Viettel"}, {ID: "fpt", Name: "FPT"}, {ID: "cmc", Name: "CMC"}}
	for h := range 2 {
		id := inventory.SiteID(fmt.Sprintf("hub-%d", h+1))
		w.inv.Sites = append(w.inv.Sites, inventory.Site{ID: id, Kind: inventory.Hub, Name: string(id)})
		w.addDevice(id, inventory.RoleHub)
		w.addCircuit(id, "a", "cmc")
		w.addCircuit(id, "b", "vnpt")
	}
	for i := range sites {
		id := inventory.SiteID(fmt.Sprintf("s-%03d", i))
		hubs := []inventory.SiteID{"hub-1", "hub-2"}
		if i == 0 {
			hubs = hubs[:1] // an island with a single path
		}
		w.inv.Sites = append(w.inv.Sites, inventory.Site{ID: id, Kind: inventory.WardOffice, Name: "Phường " + string(id), Hubs: hubs})
		w.addDevice(id, inventory.RoleEdge)
		order := rng.Perm(3)
		for n := range 1 + min(rng.IntN(4), 1) {
			w.addCircuit(id, string(rune('a'+n)), w.inv.Carriers[order[n]].ID)
		}
		if rng.IntN(10) == 0 {
			w.addCircuit(id, "z", w.inv.Carriers[order[0]].ID) // two circuits of one carrier
		}
	}
	w.link()
	for _, b := range w.boxes {
		b.sights = w.sights(b)
	}
	return w
}

func (w *world) addDevice(s inventory.SiteID, role inventory.DeviceRole) {
	id := inventory.DeviceID("d-" + string(s))
	w.inv.Devices = append(w.inv.Devices, inventory.Device{ID: id, Site: s, Role: role, Intended: inventory.InService})
	w.boxes = append(w.boxes, &box{id: id, site: s, told: map[string]float64{}, pending: map[string]time.Time{}})
}

func (w *world) addCircuit(s inventory.SiteID, suffix string, k inventory.CarrierID) {
	id := inventory.CircuitID("c-" + string(s) + suffix)
	w.inv.Circuits = append(w.inv.Circuits, inventory.Circuit{ID: id, Site: s, Carrier: k})
	w.at[s] = append(w.at[s], id)
}

func (w *world) link() {
	at := netip.MustParseAddr("172.16.0.0")
	for _, s := range w.inv.Sites {
		for _, hub := range s.Hubs {
			for _, c := range w.circuitsAt(s.ID) {
				hubDev := inventory.DeviceID("d-" + string(hub))
				p := netip.PrefixFrom(at, 31)
				w.inv.Allocations = append(w.inv.Allocations, inventory.Allocation{Owner: "tunnel/" + string(c) + "/" + string(hubDev), Prefix: p})
				w.tunnels[string(c)+"--"+string(hubDev)] = &link{
					circuit: c, edge: inventory.DeviceID("d-" + string(s.ID)), hub: hubDev, peer: [2]string{at.Next().String(), at.String()},
				}
				at = at.Next().Next()
			}
		}
	}
}

func (w *world) circuitsAt(s inventory.SiteID) []inventory.CircuitID { return w.at[s] }

func (w *world) carrier(c inventory.CircuitID) inventory.CarrierID {
	i := slices.IndexFunc(w.inv.Circuits, func(x inventory.Circuit) bool { return x.ID == c })
	return w.inv.Circuits[i].Carrier
}

func (w *world) siteOf(d inventory.DeviceID) inventory.SiteID {
	return inventory.SiteID(strings.TrimPrefix(string(d), "d-"))
}

// passes says that a tunnel carries traffic.
func (w *world) passes(l *link) bool {
	return !w.cut[l.circuit] && !w.off[w.siteOf(l.edge)] && !w.off[w.siteOf(l.hub)]
}

// sight is one thing that a box reports.
type sight struct {
	key string // "metric object"
	up  func() bool
}

// sights lists what box b reports.
func (w *world) sights(b *box) (out []sight) {
	for _, c := range w.at[b.site] {
		out = append(out, sight{telemetry.CircuitUp + " " + string(c), func() bool { return !w.cut[c] || w.silent }})
	}
	for _, name := range slices.Sorted(maps.Keys(w.tunnels)) {
		l := w.tunnels[name]
		side := slices.Index([]inventory.DeviceID{l.edge, l.hub}, b.id)
		if side < 0 {
			continue
		}
		up := func() bool { return w.passes(l) }
		out = append(out, sight{telemetry.TunnelUp + " " + name, up}, sight{telemetry.BFDUp + " " + name, up}, sight{telemetry.BGPUp + " " + l.peer[side], up})
	}
	return out
}

func bit(up bool) float64 {
	if up {
		return 1
	}
	return 0
}

// path is a circuit that b's session can use; empty: none.
func (w *world) path(b *box) inventory.CircuitID {
	if w.off[b.site] {
		return ""
	}
	for _, c := range w.circuitsAt(b.site) {
		if !w.cut[c] {
			return c
		}
	}
	return ""
}

// step moves the world by half a second and returns what arrives.
func (w *world) step() []telemetry.Sample {
	w.now = w.now.Add(500 * time.Millisecond)
	w.out = w.out[:0]
	for _, b := range w.boxes {
		dead := b.session && (w.off[b.site] || w.cut[b.over])
		switch {
		case b.changeAt.IsZero() && dead:
			b.changeAt = w.now.Add(time.Duration(w.rng.Int64N(int64(w.slow)))) // until the hub side notices
		case b.changeAt.IsZero() && !b.session && w.path(b) != "":
			b.changeAt = w.now.Add(time.Duration(w.rng.IntN(8000)) * time.Millisecond)
		case !b.changeAt.IsZero() && !w.now.Before(b.changeAt):
			b.changeAt = time.Time{}
			w.flip(b)
		}
		if b.session && !dead {
			w.tell(b)
		}
	}
	w.rng.Shuffle(len(w.out), func(i, j int) { w.out[i], w.out[j] = w.out[j], w.out[i] })
	return w.out
}

func (w *world) flip(b *box) {
	if b.session {
		b.session = false
		w.emit(b, telemetry.DeviceUp, "", 0)
		return
	}
	if b.over = w.path(b); b.over == "" {
		return
	}
	b.session = true
	w.emit(b, telemetry.DeviceUp, "", 1)
	clear(b.told) // a new subscription tells everything
	clear(b.pending)
	for _, s := range b.sights {
		b.told[s.key] = bit(s.up())
		metric, object, _ := strings.Cut(s.key, " ")
		w.emit(b, metric, object, b.told[s.key])
	}
}

// tell reports changes, each after its own delay: BFD and BGP are not the link.
func (w *world) tell(b *box) {
	for _, s := range b.sights {
		v := bit(s.up())
		if v == b.told[s.key] {
			if len(b.pending) > 0 {
				delete(b.pending, s.key)
			}
			continue
		}
		at, waits := b.pending[s.key]
		switch {
		case !waits:
			b.pending[s.key] = w.now.Add(time.Duration(w.rng.IntN(2500)) * time.Millisecond)
		case !w.now.Before(at):
			delete(b.pending, s.key)
			b.told[s.key] = v
			metric, object, _ := strings.Cut(s.key, " ")
			w.emit(b, metric, object, v)
		}
	}
}

func (w *world) emit(b *box, metric, object string, v float64) {
	w.out = append(w.out, telemetry.Sample{Device: b.id, Metric: metric, Object: object, Value: v, At: w.now})
}
