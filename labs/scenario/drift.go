package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// found is how long a change by hand may go unnoticed by the controller.
const found = 10 * time.Second

// handMade changes a ward's box past its agent, and holds the agent to noticing,
// telling the controller, and keeping what was signed.
func handMade(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	if err := p.Lab.Healthy(ctx, time.Minute); err != nil {
		return err
	}
	all, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	nft, err := program.Find("nft")
	if err != nil {
		return err
	}
	vtysh, err := program.Find("vtysh")
	if err != nil {
		return err
	}
	asn := p.asn(ctx, ward)
	for _, hand := range []struct {
		name, part, who string
		do              []string
		gone            func(ctx context.Context) (bool, error)
	}{
		{
			"a rule that lets everything pass", "filter", "process nft",
			[]string{nft, "insert", "rule", "inet", "wardnet", "forward", "counter", "accept", "comment", "by-hand"},
			func(ctx context.Context) (bool, error) {
				out, err := netns.Output(ctx, ward.NS, nft, "list", "chain", "inet", "wardnet", "forward")
				return !strings.Contains(out, "by-hand"), err
			},
		},
		{
			"a network announced by hand", "routing", "",
			[]string{vtysh, "-N", ward.NS, "-c", "configure terminal", "-c", "router bgp " + asn, "-c", "address-family ipv4 unicast", "-c", "network 203.0.113.0/24"},
			func(ctx context.Context) (bool, error) {
				out, err := netns.Output(ctx, ward.NS, vtysh, "-N", ward.NS, "-c", "show running-config")
				return !strings.Contains(out, "203.0.113.0/24"), err
			},
		},
	} {
		before, err := p.drifts(ctx, ward)
		if err != nil {
			return err
		}
		at := time.Now()
		if _, err := netns.Output(ctx, ward.NS, hand.do[0], hand.do[1:]...); err != nil {
			return err
		}
		var seen client.Drift
		late := p.until(ctx, found+20*time.Second, "the drift being told", func(ctx context.Context) (bool, error) {
			now, err := p.drifts(ctx, ward)
			if len(now) > len(before) {
				seen = now[0]
			}
			return len(now) > len(before), err
		})
		took := time.Since(at)
		e := Event{Name: hand.name + " is told", OutageMS: took.Milliseconds(), ExpectedMS: found.Milliseconds()}
		e.OK = late == nil && took <= found && len(seen.Changes) > 0 && strings.HasPrefix(seen.Changes[0], hand.part+":") && strings.HasPrefix(seen.Who, hand.who)
		e.Detail = strings.TrimSpace(fmt.Sprintf("%s; %s; %s", strings.Join(seen.Changes, ", "), seen.Who, seen.State))
		p.event(e)
		late = p.until(ctx, found+20*time.Second, "the box being put back", hand.gone)
		took = time.Since(at)
		p.event(Event{Name: hand.name + " is gone", OutageMS: took.Milliseconds(), ExpectedMS: found.Milliseconds(), OK: late == nil && took <= found})
	}
	return p.through(ctx, "meanwhile", unnoticed, time.Second, all, func() error { return nil })
}

// drifts are those of a ward's device, newest first.
func (p *play) drifts(ctx context.Context, s netlab.Site) (out []client.Drift, err error) {
	err = p.as(netlab.Engineer, func(c *client.Client) error {
		all, err := c.Drifts(ctx)
		for _, d := range all {
			if d.Device == s.Device {
				out = append(out, d)
			}
		}
		return err
	})
	return out, err
}

// asn is the AS number that a ward's routing runs with.
func (p *play) asn(ctx context.Context, s netlab.Site) string {
	text := ""
	_ = p.as(netlab.Engineer, func(c *client.Client) error { // without it the scenario fails at its own command
		v, err := c.Config(ctx, s.Device, 0)
		text = v.Text
		return err
	})
	_, rest, _ := strings.Cut(text, `"asn":`)
	number, _, _ := strings.Cut(rest, ",")
	return strings.TrimSpace(number)
}
