package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// because adds to the reasons of every changed device which profile or variable
// its site's change came from. before gives the intent that a device runs now;
// nil: it is not known, and nothing is said.
func (p *Plan) because(before func(inventory.DeviceID) *Compiled, to *Compiled) {
	explainers := map[intent.Number]*inventory.Explainer{}
	explain := func(c *Compiled, site inventory.SiteID) map[string]inventory.Derivation {
		e := explainers[c.Revision]
		if e == nil {
			e = inventory.NewExplainer(*c.Intent)
			explainers[c.Revision] = e
		}
		all, err := e.Explain(site)
		if err != nil { // the site is not there in one of them
			return nil
		}
		out := make(map[string]inventory.Derivation, len(all))
		for _, d := range all {
			out[d.Field] = d
		}
		return out
	}
	for i := range p.Devices {
		d := &p.Devices[i]
		from := before(d.Device)
		if d.Action != Modify || from == nil || from.Intent == nil || to.Intent == nil {
			continue
		}
		if len(from.Intent.Profiles)+len(to.Intent.Profiles) == 0 {
			continue
		}
		d.Reasons = append(d.Reasons, origins(explain(from, d.Site), explain(to, d.Site))...)
	}
}

// mostFields of one origin are named.
const mostFields = 3

// origins says which profiles and variables the fields came from that differ
// between two expansions of a site, a line for each.
func origins(old, now map[string]inventory.Derivation) []string {
	fields := map[string][]string{} // by origin
	all := maps.Clone(old)
	if all == nil {
		all = map[string]inventory.Derivation{}
	}
	maps.Copy(all, now)
	for f := range all {
		a, was := old[f]
		b, is := now[f]
		switch {
		case was && is && a.Value == b.Value:
		case is && b.Profile != "":
			fields[b.String()] = append(fields[b.String()], f)
		case !is && a.Profile != "":
			origin := "no longer " + a.String()
			fields[origin] = append(fields[origin], f)
		}
	}
	var out []string
	for origin, list := range fields {
		slices.Sort(list)
		text := strings.Join(list[:min(len(list), mostFields)], ", ")
		if n := len(list) - mostFields; n > 0 {
			text += fmt.Sprintf(" and %d more", n)
		}
		out = append(out, origin+": "+text)
	}
	slices.Sort(out)
	return out
}
