package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair"
	"github.com/wardnet/wardnet/labs/netlab"
)

// tunnelsDie kills the process that holds the first ward's tunnels.
func tunnelsDie(ctx context.Context, p *play) error {
	ward, kind := p.wards()[0], "wg "
	if p.Lab.Shape().Overlay == inventory.OverlayIPsec {
		kind = "ike "
	}
	all, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	return p.through(ctx, kind+"killed", restarted, 5*time.Second, all, func() error { return p.kill(ctx, kind+string(ward.ID)) })
}

// agentDies kills the agent and starts it again: the data plane must not
// notice.
func agentDies(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	all, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	if err := p.through(ctx, "killed", unnoticed, 3*time.Second, all, func() error { return p.kill(ctx, "agent "+string(ward.ID)) }); err != nil {
		return err
	}
	err = p.through(ctx, "started again", unnoticed, 5*time.Second, all, func() error { return p.heal(ctx) })
	p.lossless()
	return err
}

// unnoticed is the longest gap of a ping that loses nothing: what a loaded
// machine keeps packets waiting for.
const unnoticed = 500 * time.Millisecond

// lossless holds all events so far to having lost no packet.
func (p *play) lossless() {
	for i := range p.events {
		p.events[i].OK = p.events[i].OK && p.events[i].Lost == 0
	}
}

func controllerDies(ctx context.Context, p *play) error {
	all, stop, err := p.watch(ctx, p.wards()...)
	if err != nil {
		return err
	}
	defer stop()
	err = p.through(ctx, "controller killed", unnoticed, 3*time.Second, all, func() error { return p.kill(ctx, "controller") })
	p.lossless()
	return err
}

// wardRestarts kills all that runs in a ward's box and starts its agent.
func wardRestarts(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	all, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	return p.through(ctx, "ward's processes restarted", rebooted, 5*time.Second, all, func() error {
		if err := p.Lab.Crash(ward); err != nil {
			return err
		}
		return p.Lab.StartEdge(ward)
	})
}

// allReboot holds the network, without a controller, to the intent afterwards.
func allReboot(ctx context.Context, p *play) error {
	all, stop, err := p.watch(ctx, p.wards()...)
	if err != nil {
		return err
	}
	defer stop()
	err = p.through(ctx, "all rebooted", rebooted, 5*time.Second, all, func() error {
		var wg sync.WaitGroup
		errs := make([]error, len(p.Lab.Topology.Sites))
		for i, s := range p.Lab.Topology.Sites {
			wg.Go(func() { errs[i] = p.Lab.Reboot(ctx, s) })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	return p.intact(ctx, "without the controller")
}

// carrierWards is the least number of sites from which an incident's cause can
// be told to be a carrier (package incident).
const carrierWards = 3

// carrierFails silences a carrier at all its wards and waits for its incident.
func carrierFails(ctx context.Context, p *play) error {
	carrier, members := p.busiest()
	if len(members) < carrierWards {
		return fmt.Errorf("%w: no carrier serves %d wards of this lab; bring it up with more", inventory.ErrInvalid, carrierWards)
	}
	if err := p.undisturbed(ctx); err != nil {
		return err
	}
	known := map[string]int{} // how often opened
	err := p.incidents(ctx, func(x client.Incident) { known[x.ID] = x.Reopened + 1 })
	if err != nil {
		return err
	}
	at := time.Now()
	if err := p.fault(ctx, impair.Target{Carrier: carrier, Wards: members}, impair.Fault{Kind: impair.Silence}); err != nil {
		return err
	}
	var found client.Incident
	var others []string
	look := func(ctx context.Context) (bool, error) {
		others = nil
		err := p.incidents(ctx, func(x client.Incident) {
			switch {
			case known[x.ID] > x.Reopened: // as it was
			case x.CauseKind == "carrier" && x.Cause == string(carrier):
				found = x
			default:
				others = append(others, x.CauseKind+" "+x.Cause)
			}
		})
		slices.Sort(found.Members)
		return slices.Equal(found.Members, members), err
	}
	late := p.until(ctx, noticed+30*time.Second, "the incident", look)
	noted := time.Now()
	e := Event{Name: "incident opened", ExpectedMS: noticed.Milliseconds(), Detail: fmt.Sprintf("carrier %s at %v: %s %s has members %v", carrier, members, found.CauseKind, found.Ticket, found.Members)}
	switch {
	case found.Reopened > 0: // the same carrier failed a few minutes ago
		e.OutageMS = noted.Sub(at).Milliseconds()
	case !found.Opened.IsZero():
		e.OutageMS = found.Opened.Sub(at).Milliseconds()
	}
	e.OK = late == nil && e.OutageMS <= e.ExpectedMS
	p.event(e)
	if err := pause(ctx, 10*time.Second); err != nil { // a second incident for the same cause may come late
		return err
	}
	if _, err := look(ctx); err != nil {
		return err
	}
	p.event(Event{Name: "no other incident", Lost: len(others), OK: len(others) == 0, Detail: strings.Join(others, ", ")})
	healed := time.Now()
	if err := p.heal(ctx); err != nil {
		return err
	}
	late = p.until(ctx, 2*time.Minute, "resolution", func(ctx context.Context) (bool, error) {
		_, err := look(ctx)
		return found.State == "resolved", err
	})
	p.event(Event{Name: "incident resolved", OutageMS: time.Since(healed).Milliseconds(), ExpectedMS: (2 * time.Minute).Milliseconds(), OK: late == nil, Detail: found.State})
	return nil
}

// undisturbed waits until no incident is open: what a scenario before has left, a
// ward that was dark for instance, would take the findings of that ward.
func (p *play) undisturbed(ctx context.Context) error {
	return p.until(ctx, quieted, "the end of earlier incidents", func(ctx context.Context) (bool, error) {
		open := 0
		err := p.incidents(ctx, func(x client.Incident) {
			if x.State != "resolved" {
				open++
			}
		})
		return open == 0, err
	})
}

func (p *play) incidents(ctx context.Context, visit func(client.Incident)) error {
	return p.as(netlab.Engineer, func(c *client.Client) error {
		all, err := c.Incidents(ctx, "")
		for _, x := range all {
			visit(x)
		}
		return err
	})
}

// busiest is the carrier with most wards, and those wards.
func (p *play) busiest() (inventory.CarrierID, []inventory.SiteID) {
	at := map[inventory.CarrierID][]inventory.SiteID{}
	for _, w := range p.wards() {
		for _, c := range p.Lab.City.Index().SiteCircuits(w.ID) {
			if !slices.Contains(at[c.Carrier], w.ID) {
				at[c.Carrier] = append(at[c.Carrier], w.ID)
			}
		}
	}
	var best inventory.CarrierID
	for id, sites := range at {
		if len(sites) > len(at[best]) || (len(sites) == len(at[best]) && id < best) {
			best = id
		}
	}
	slices.Sort(at[best])
	return best, at[best]
}

// wardComes adds the next ward of the sample and waits until all is well.
func wardComes(ctx context.Context, p *play) error {
	id, err := p.Lab.NextWard()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := p.Lab.AddWard(ctx, id); err != nil {
		return fmt.Errorf("add %s: %w", id, err)
	}
	took := time.Since(begin)
	p.event(Event{Name: "a ward has come", OutageMS: took.Milliseconds(), ExpectedMS: comes.Milliseconds(), OK: took <= comes, Detail: string(id)})
	added, _ := p.Lab.Topology.Site(id)
	all, stop, err := p.watch(ctx, added)
	if err != nil {
		return err
	}
	stop()
	c := all[0].ping.Since(0, all[0].ping.Mark()-settle)
	p.event(Event{Name: "its packets pass", OutageMS: c.Outage.Milliseconds(), Lost: c.Lost, ExpectedMS: settle.Milliseconds(), OK: c.Sent > c.Lost && c.Outage < settle})
	return nil
}
