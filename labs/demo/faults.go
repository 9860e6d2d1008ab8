package demo

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Fault is a carrier to cut at some wards, some time after the first one.
type Fault struct {
	Carrier inventory.CarrierID
	Wards   int
	After   time.Duration
}

// ParseFault reads "carrier=viettel,wards=12,after=40s"; all faults of the text
// are reported at once.
func ParseFault(text string) (Fault, error) {
	f := Fault{Wards: 12}
	var bad []string
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		var err error
		switch {
		case !ok:
			err = fmt.Errorf("is not key=value")
		case key == "carrier":
			f.Carrier = inventory.CarrierID(value)
		case key == "wards":
			f.Wards, err = strconv.Atoi(value)
		case key == "after":
			f.After, err = time.ParseDuration(value)
		default:
			err = fmt.Errorf("unknown key; known: carrier, wards, after")
		}
		if err != nil {
			bad = append(bad, fmt.Sprintf("%q: %v", part, err))
		}
	}
	if f.Carrier == "" {
		bad = append(bad, "carrier is missing")
	}
	if f.Wards < 1 {
		bad = append(bad, "wards must be at least 1")
	}
	if len(bad) > 0 {
		return f, fmt.Errorf("%w: --fault %s: %s", inventory.ErrInvalid, text, strings.Join(bad, "; "))
	}
	return f, nil
}

// victims chooses n ward offices with a circuit of the carrier, none of except;
// a third of them, where the city has so many, hang on that carrier alone and
// will go dark.
func victims(inv inventory.Inventory, f Fault, except map[inventory.SiteID]bool, rng *rand.Rand) ([]inventory.SiteID, error) {
	has, other := map[inventory.SiteID]bool{}, map[inventory.SiteID]bool{}
	for _, c := range inv.Circuits {
		if c.Carrier == f.Carrier {
			has[c.Site] = true
		} else {
			other[c.Site] = true
		}
	}
	var dark, rest []inventory.SiteID
	for _, s := range inv.Sites {
		switch {
		case s.Kind != inventory.WardOffice || except[s.ID] || !has[s.ID]:
		case other[s.ID]:
			rest = append(rest, s.ID)
		default:
			dark = append(dark, s.ID)
		}
	}
	if len(dark)+len(rest) < f.Wards {
		return nil, fmt.Errorf("%w: carrier %s serves only %d ward offices that can be cut, %d were asked for", inventory.ErrInvalid, f.Carrier, len(dark)+len(rest), f.Wards)
	}
	rng.Shuffle(len(dark), func(i, j int) { dark[i], dark[j] = dark[j], dark[i] })
	rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	n := min(len(dark), max(f.Wards/3, f.Wards-len(rest)))
	out := append(dark[:n:n], rest[:f.Wards-n]...)
	slices.Sort(out)
	return out, nil
}
