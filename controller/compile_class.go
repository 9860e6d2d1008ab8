package controller

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// maxClasses is how many service classes the top byte of a packet mark tells
// apart; 0 is best effort.
const maxClasses = 250

// tier is a per-hop behaviour: who gets it, its code point, and what all its
// classes together are guaranteed of a circuit's rate.
type tier struct {
	latencyMS, jitterMS int // a class belongs here if it tolerates no more
	dscp                uint8
	share               float64
}

// tiers are tried in this order; the budgets are those of a class. The code
// points follow RFC 4594: telephony EF, transactions AF21, streams AF41, bulk
// CS1. The shares sum to 0.9; what is left keeps best effort and BGP alive.
var tiers = []tier{
	{150, 30, 46, 0.30},  // EF
	{150, 1e6, 18, 0.25}, // AF21
	{400, 100, 34, 0.20}, // AF41
	{999, 1e6, 0, 0.10},  // default
	{1e6, 1e6, 8, 0.05},  // CS1
}

// placeClasses collects the service classes that applications name. Where two
// applications mean different budgets by one name, the stricter holds.
func (ix *index) placeClasses() []error {
	byName := map[string]edge.Class{}
	for i := range ix.inv.Applications {
		c := ix.inv.Applications[i].Class
		k, known := byName[c.Name]
		if !known {
			k = edge.Class{Name: c.Name, LossRatio: c.LossRatio, LatencyMS: c.LatencyMS, JitterMS: c.JitterMS}
		}
		k.LossRatio, k.LatencyMS, k.JitterMS = min(k.LossRatio, c.LossRatio), min(k.LatencyMS, c.LatencyMS), min(k.JitterMS, c.JitterMS)
		byName[c.Name] = k
	}
	members := map[int]int{} // of a tier
	for _, k := range byName {
		members[tierOf(k)]++
	}
	for _, k := range byName {
		t := tierOf(k)
		k.DSCP, k.Share = tiers[t].dscp, tiers[t].share/float64(members[t])
		ix.classes = append(ix.classes, k)
	}
	slices.SortFunc(ix.classes, func(a, b edge.Class) int {
		return cmp.Or(cmp.Compare(a.LatencyMS, b.LatencyMS), cmp.Compare(a.JitterMS, b.JitterMS), cmp.Compare(a.LossRatio, b.LossRatio), cmp.Compare(a.Name, b.Name))
	})
	if n := len(ix.classes); n > maxClasses {
		return []error{fmt.Errorf("%w: applications name %d service classes; an edge tells %d apart", inventory.ErrInvalid, n, maxClasses)}
	}
	return nil
}

func tierOf(c edge.Class) int {
	i := slices.IndexFunc(tiers, func(t tier) bool { return c.LatencyMS <= t.latencyMS && c.JitterMS <= t.jitterMS })
	if i < 0 {
		return len(tiers) - 1
	}
	return i
}

// classOf is the service class of a permit's flows: the application's, or for
// calls between voice segments the first that is fit for telephony.
func (ix *index) classOf(p *inventory.Permit, app *inventory.Application) string {
	if app != nil {
		return app.Class.Name
	}
	if p.ToSeg == inventory.Voice {
		for _, c := range ix.classes {
			if c.DSCP == tiers[0].dscp {
				return c.Name
			}
		}
	}
	return ""
}
