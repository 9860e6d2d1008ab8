// Package impair puts faults on the lab's own routers: it silences, cuts, loses,
// delays and slows circuits and hubs, and ends processes. Nothing inside a hub's
// or an edge's namespace is touched but its processes. Every fault is journalled
// before it is made, so that all can be healed whatever happens in between.
package impair

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair/forward"
	"github.com/wardnet/wardnet/labs/netlab"
)

// Kind is what a fault does.
type Kind string

// Kinds of fault.
const (
	Silence Kind = "cut"   // nothing passes, and nobody is told
	Down    Kind = "down"  // the far port goes down: the box sees no carrier
	Loss    Kind = "loss"  // packets are lost at random, each way
	Slow    Kind = "delay" // delay, jitter and rate
	Killed  Kind = "kill"  // a process is ended by SIGKILL
)

// Fault is one fault as journalled.
type Fault struct {
	Kind    Kind           `json:"kind"`
	Target  string         `json:"target"` // as a person names it, e.g. "circuit c-26740-1"
	At      time.Time      `json:"at"`
	Ports   []forward.Port `json:"ports,omitempty"`
	Process string         `json:"process,omitempty"` // killed: its name in the lab
	// LossRatio in [0,1], each way.
	LossRatio float64 `json:"loss_ratio,omitempty"`
	// DelayMS and JitterMS are one way, in milliseconds.
	DelayMS  float64           `json:"delay_ms,omitempty"`
	JitterMS float64           `json:"jitter_ms,omitempty"`
	RateBPS  inventory.BitRate `json:"rate_bps,omitempty"` // bits per second
}

// String says the fault in a few words.
func (f Fault) String() string { return string(f.Kind) + " " + f.Target }

// Target says what a fault is put on; one of the fields, but Wards may narrow a
// carrier.
type Target struct {
	Circuit    inventory.CircuitID
	Carrier    inventory.CarrierID
	Hub        inventory.SiteID
	Ward       inventory.SiteID
	Wards      []inventory.SiteID
	Controller bool
}

// String is the target's name in the journal.
func (t Target) String() string {
	switch {
	case t.Circuit != "":
		return "circuit " + string(t.Circuit)
	case t.Carrier != "" && len(t.Wards) > 0:
		words := make([]string, len(t.Wards))
		for i, w := range t.Wards {
			words[i] = string(w)
		}
		return "carrier " + string(t.Carrier) + " at " + strings.Join(words, ",")
	case t.Carrier != "":
		return "carrier " + string(t.Carrier)
	case t.Hub != "":
		return "hub " + string(t.Hub)
	case t.Ward != "":
		return "ward " + string(t.Ward)
	case t.Controller:
		return "controller"
	}
	return ""
}

// Validate says that exactly one thing is named.
func (t Target) Validate() error {
	n := 0
	for _, given := range []bool{t.Circuit != "", t.Carrier != "", t.Hub != "", t.Ward != "", t.Controller} {
		if given {
			n++
		}
	}
	if n != 1 || (len(t.Wards) > 0 && t.Carrier == "") {
		return fmt.Errorf("%w: name one of a circuit, a carrier (and wards of it), a hub, a ward, or the controller", inventory.ErrInvalid)
	}
	return nil
}

// Ports are the lab's own ports at the far end of the links that t names: of a
// hub also those to the data centre.
func Ports(top netlab.Topology, t Target) ([]forward.Port, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	var carrier netlab.Carrier
	if t.Carrier != "" {
		var ok bool
		if carrier, ok = top.Carrier(t.Carrier); !ok {
			return nil, fmt.Errorf("%w: the lab has no carrier %s; %s", inventory.ErrNotFound, t.Carrier, carriers(top))
		}
	}
	wards := map[string]bool{}
	for _, w := range slices.Concat(t.Wards, []inventory.SiteID{t.Ward, t.Hub}) {
		if w == "" {
			continue
		}
		site, ok := top.Site(w)
		if !ok || (w == t.Hub) != (site.Role == inventory.RoleHub) {
			return nil, fmt.Errorf("%w: the lab has no such hub or ward %s; %s", inventory.ErrNotFound, w, sites(top))
		}
		wards[site.NS] = true
	}
	var out []forward.Port
	for _, l := range top.Links {
		here := false
		switch l.Kind {
		case netlab.LinkCircuit:
			here = l.Name == string(t.Circuit) ||
				(t.Carrier != "" && l.B.NS == carrier.NS && (len(wards) == 0 || wards[l.A.NS])) ||
				(t.Carrier == "" && wards[l.A.NS])
		case netlab.LinkUplink:
			here = t.Hub != "" && wards[l.A.NS]
		}
		if here {
			out = append(out, forward.Port{Namespace: l.B.NS, Name: l.B.Port})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: the lab has no circuit for %s", inventory.ErrNotFound, t)
	}
	return out, nil
}

func carriers(top netlab.Topology) string {
	words := make([]string, len(top.Carriers))
	for i, c := range top.Carriers {
		words[i] = string(c.ID)
	}
	return "it has " + strings.Join(words, ", ")
}

func sites(top netlab.Topology) string {
	words := make([]string, len(top.Sites))
	for i, s := range top.Sites {
		words[i] = string(s.ID)
	}
	return "it has " + strings.Join(words, ", ")
}
