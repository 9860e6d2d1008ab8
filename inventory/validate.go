package inventory

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Limits of what is accepted; beyond them a value is a slip of the pen.
const (
	minMTU  = 1280 // bytes; RFC 8200 §5, the least an IPv6 link carries
	maxMTU  = 9216 // bytes; the common jumbo frame
	maxRate = 400 * Gbps
	maxText = 300       // runes of a name or a reason
	maxHead = 1_000_000 // people at a site, relative cost of a circuit
	minBFD  = 100       // milliseconds; the least that software keeps on a busy box
	maxBFD  = 10_000    // milliseconds; beyond it BGP's own timers are faster
	maxList = 256       // entries of a list inside a noun; pools
)

var (
	serialForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$`)
	nsoForm    = regexp.MustCompile(`^[0-9]{5}$`)
	codeForm   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,30}[A-Za-z0-9])?$`)
)

// Validate says whether inv is complete and consistent. The error is [Faults],
// every fault at once, each with the path of its field ("sites[3].hubs[0]",
// counted in the order of inv) and without file and line, which only a decoder
// knows. What a profile gives a site is checked as if the site had it; its fault
// is told where it is written, once.
func Validate(inv Inventory) error {
	x := newExpander(inv)
	c := newChecker(x.out)
	c.profiles(inv.Profiles)
	if !isID(string(inv.Org)) {
		c.faults.add(Fault{Field: "org", Text: fmt.Sprintf("owner organisation %q: %s", inv.Org, idRule)})
	}
	c.units()
	c.carriers()
	c.sites()
	c.devices()
	c.routers()
	c.circuits()
	c.pools()
	c.allocations()
	c.applications()
	c.permits()
	c.overlaps()
	return x.traced(c.faults)
}

const idRule = "an id is 1 to 63 of a-z, 0-9 and single hyphens inside"

// isID says whether s has the form of an id. Two hyphens in a row are left out,
// for they join ids to tunnel names.
func isID(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1 && s[i-1] != '-':
		default:
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 63
}

// checker walks one inventory. The maps lead from an id to the first thing
// that has it.
type checker struct {
	inv     Inventory
	unit    map[UnitID]*Unit
	carrier map[CarrierID]bool
	site    map[SiteID]*Site
	device  map[DeviceID]*Device
	circuit map[CircuitID]*Circuit
	pool    map[PoolID]*Pool
	app     map[ApplicationID]bool
	alloc   map[SiteID][]Allocation // of sites
	ports   map[sitePort]string     // what each network interface is for
	permit  map[PermitID]*Permit
	hub     []*Site
	faults  faultList
}

func newChecker(inv Inventory) *checker {
	c := &checker{
		inv:  inv,
		unit: map[UnitID]*Unit{}, carrier: map[CarrierID]bool{}, site: map[SiteID]*Site{},
		device: map[DeviceID]*Device{}, circuit: map[CircuitID]*Circuit{}, pool: map[PoolID]*Pool{},
		app: map[ApplicationID]bool{}, permit: map[PermitID]*Permit{}, alloc: map[SiteID][]Allocation{}, ports: map[sitePort]string{},
	}
	for i := range inv.Units {
		first(c.unit, inv.Units[i].ID, &inv.Units[i])
	}
	for i := range inv.Carriers {
		c.carrier[inv.Carriers[i].ID] = true
	}
	for i := range inv.Sites {
		first(c.site, inv.Sites[i].ID, &inv.Sites[i])
		if inv.Sites[i].Kind == Hub {
			c.hub = append(c.hub, &inv.Sites[i])
		}
	}
	for i := range inv.Devices {
		first(c.device, inv.Devices[i].ID, &inv.Devices[i])
	}
	for i := range inv.Circuits {
		first(c.circuit, inv.Circuits[i].ID, &inv.Circuits[i])
	}
	for i := range inv.Pools {
		first(c.pool, inv.Pools[i].ID, &inv.Pools[i])
	}
	for i := range inv.Applications {
		c.app[inv.Applications[i].ID] = true
	}
	for i := range inv.Permits {
		first(c.permit, inv.Permits[i].ID, &inv.Permits[i])
	}
	for _, a := range inv.Allocations {
		if id, ok := strings.CutPrefix(a.Owner, "site/"); ok {
			c.alloc[SiteID(id)] = append(c.alloc[SiteID(id)], a)
		}
	}
	return c
}

func first[K comparable, V any](m map[K]V, k K, v V) {
	if _, ok := m[k]; !ok {
		m[k] = v
	}
}

// report adds a fault of one element; field is relative to it, "" is the
// element itself.
type report func(field, format string, args ...any)

// element returns the reporter of the i-th element of a noun and checks its id.
func (c *checker) element(noun string, i int, id string, seen map[string]int) report {
	singular := strings.TrimSuffix(noun, "s")
	bad := func(field, format string, args ...any) {
		at := fmt.Sprintf("%s[%d]", noun, i)
		if field != "" {
			at += "." + field
		}
		c.faults.add(Fault{Field: at, Text: fmt.Sprintf("%s %q: ", singular, id) + fmt.Sprintf(format, args...)})
	}
	if !isID(id) {
		bad("id", "%s", idRule)
	} else if j, dup := seen[id]; dup {
		bad("id", "the id is taken by %s[%d]; ids are unique and never reused", noun, j)
	}
	if _, dup := seen[id]; !dup {
		seen[id] = i
	}
	return bad
}

// text checks words meant for people.
func text(bad report, field, s string) {
	switch {
	case s == "":
		bad(field, "is missing")
	case !utf8.ValidString(s):
		bad(field, "is not UTF-8")
	case !norm.NFC.IsNormalString(s):
		bad(field, "%q is not in Unicode normal form NFC (its letters and tone marks are stored apart); write %q", s, norm.NFC.String(s))
	case utf8.RuneCountInString(s) > maxText:
		bad(field, "is longer than %d characters", maxText)
	case residue(s) != "":
		bad(field, "%q holds %q, which is left of a template; write the text (only fields of a profile take variables)", s, residue(s))
	case strings.TrimSpace(s) != s:
		bad(field, "%q begins or ends with a space", s)
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\ufeff' }):
		bad(field, "%q holds a control character", s)
	}
}

// optionalText checks words that may be left out.
func optionalText(bad report, field, s string) {
	if s != "" {
		text(bad, field, s)
	}
}

// enum checks a value of a closed list.
func enum[T ~string](bad report, field string, v T, known ...T) {
	if !slices.Contains(known, v) {
		bad(field, "unknown value %q (want %s)", v, oneOf(known))
	}
}

func oneOf[T ~string](known []T) string {
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = string(k)
	}
	return strings.Join(words, ", ")
}

// number checks a value against inclusive bounds.
func number[T ~int | ~uint64 | ~float64](bad report, field string, v, low, high T) {
	if !(v >= low && v <= high) { // also true of NaN
		bad(field, "%v is not in %v to %v", v, low, high)
	}
}

// place checks WGS 84 degrees.
func place(bad report, lat, lon float64) {
	if lat == 0 && lon == 0 {
		bad("lat", "coordinates are missing")
		return
	}
	number(bad, "lat", lat, -90, 90)
	number(bad, "lon", lon, -180, 180)
}

// short refuses a list that is too long to be meant, and to be compared in pairs.
func short[T any](bad report, field string, list []T) bool {
	if len(list) > maxList {
		bad(field, "%d entries; at most %d are accepted", len(list), maxList)
		return false
	}
	return true
}

// date checks a calendar date and says whether it is one.
func date(bad report, field, s string) bool {
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		bad(field, "%q is not a date (want YYYY-MM-DD)", s)
		return false
	}
	return true
}
