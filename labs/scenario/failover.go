package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/labs/impair"
	"github.com/wardnet/wardnet/labs/netlab"
)

// All lists every scenario.
var All = []Scenario{
	{"failover-circuit", "the preferred circuit of a ward goes silent, then loses its carrier", 1, []Step{
		{"the circuit goes silent and comes back", func(ctx context.Context, p *play) error { return p.circuitFails(ctx, "silent", impair.Silence) }},
		{"the circuit loses its carrier and gets it back", func(ctx context.Context, p *play) error { return p.circuitFails(ctx, "carrier down", impair.Down) }},
	}},
	{"failover-hub", "a hub dies silently, with its uplink; packets keep to the intent all the while", 1, []Step{
		{"probe before", func(ctx context.Context, p *play) error { return p.intact(ctx, "before") }},
		{"the hub dies and comes back", hubDies},
		{"probe after", func(ctx context.Context, p *play) error { return p.intact(ctx, "after") }},
	}},
	{"brownout", "the preferred circuit loses packets: the edge leaves it by its service level", 1, []Step{
		{"the circuit loses packets", brownsOut},
	}},
	{"bad-config", "a config that cuts a ward off is reverted by the edge; one the box refuses changes nothing", 1, []Step{
		{"a config cuts the ward off", cutsOff},
		{"the box refuses a config", refused},
	}},
	{"bad-template", "a shared template cuts staff off: the proof refuses it; waived, the first wave stops it and all of it returns", 2, []Step{
		{"the template is offered", wrongTemplate},
		{"probe after", func(ctx context.Context, p *play) error { return p.intact(ctx, "after") }},
	}},
	{"drift", "a ward's box is changed by hand: noticed, told with who did it, and put back", 1, []Step{
		{"somebody changes the box", handMade},
	}},
	{"router", "the data centre's router is configured by its command line; changed by hand it is left until somebody decides", 1, []Step{
		{"the router is driven", routerDriven},
	}},
	{"autonomy", "edges and hubs boot and run without the controller", 1, []Step{
		{"the controller dies", controllerDies},
		{"a ward's processes restart", wardRestarts},
		{"every box loses power", allReboot},
	}},
	{"distrust", "the devices issuer's key is stolen: every edge comes to a new certificate by itself", 1, []Step{
		{"the devices issuer is distrusted", distrusted},
	}},
	{"revocation", "a revoked ward passes nothing, whatever reverts and reboots", 2, []Step{
		{"the ward's certificate is revoked", revoked},
		{"a bad config reverts on a hub", hubReverts},
		{"the other hub reboots without the controller", hubReboots},
		{"the ward enrols again with a new token", comesAgain},
	}},
	{"carrier-outage", "a carrier fails at every ward: one incident with exactly those members", carrierWards, []Step{
		{"the carrier fails and comes back", carrierFails},
	}},
	{"bulk", "a call beside a bulk transfer that fills the ward's only circuit", 1, []Step{
		{"the circuit fills up", fillsUp},
	}},
	{"ztp", "one more ward of the sample comes by zero-touch provisioning; it stays in the lab", 1, []Step{
		{"a ward comes", wardComes},
	}},
	{"encrypted", "a known payload crosses the wards: seen in their segments, never on their circuits", 1, []Step{
		{"capture", encrypts},
	}},
	{"tools", "a ward's box pings, traces and captures; who may not is refused; the audit log knows", 1, []Step{
		{"look from the box", tools},
	}},
	{"replace", "a ward's box burns: another one takes its place, the burnt one's disk is worth nothing", 1, []Step{
		{"the box is replaced", boxReplaced},
	}},
	{"steadiness", "nothing happens, and nothing flaps", 1, []Step{
		{"look", looks},
	}},
	{"restart-wg", "the process that holds a ward's tunnels dies: WireGuard's, or the IKE daemon", 1, []Step{
		{"the process dies", tunnelsDie},
	}},
	{"restart-agent", "the agent of a ward dies: no packet is lost", 1, []Step{
		{"the agent dies", agentDies},
	}},
	{"upgrade", "a ward's agent is upgraded, then offered a broken one (needs --agent): no packet is lost", 1, []Step{
		{"a good agent, then a broken one", agentUpgrade},
	}},
}

func (p *play) circuitFails(ctx context.Context, name string, kind impair.Kind) error {
	ward := p.wards()[0]
	all, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	circuit := impair.Target{Circuit: p.primary(ward).ID}
	where, err := p.rides(ctx, all[0].ping, circuit)
	if err != nil {
		return err
	}
	n := len(p.events)
	if err := p.through(ctx, name, failover, 4*time.Second, all, func() error { return p.fault(ctx, circuit, impair.Fault{Kind: kind}) }); err != nil {
		return err
	}
	p.noted(n, where)
	return p.through(ctx, name+", healed", failover, 8*time.Second, all, func() error { return p.heal(ctx) })
}

func hubDies(ctx context.Context, p *play) error {
	var served []netlab.Site
	hub := p.hubOf(p.wards()[0])
	for _, w := range p.wards() {
		if p.hubOf(w) == hub {
			served = append(served, w)
		}
	}
	all, stop, err := p.watch(ctx, served...)
	if err != nil {
		return err
	}
	defer stop()
	where, err := p.rides(ctx, all[0].ping, impair.Target{Hub: hub})
	if err != nil {
		return err
	}
	n := len(p.events)
	err = p.through(ctx, "hub dead", failover, 4*time.Second, all, func() error { return p.fault(ctx, impair.Target{Hub: hub}, impair.Fault{Kind: impair.Silence}) })
	if err != nil {
		return err
	}
	p.noted(n, where)
	if err := p.intact(ctx, "during"); err != nil {
		return err
	}
	if err := p.through(ctx, "hub back", failover, 8*time.Second, all, func() error { return p.heal(ctx) }); err != nil {
		return err
	}
	return p.Lab.Healthy(ctx, time.Minute)
}

// brownLoss is each way: far over any service class's tolerance, and too
// little for BFD to miss three in a row often.
const brownLoss = 0.10

// brownsOut counts until the last packet that the lossy circuit cost.
func brownsOut(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	if n := len(ward.Circuits); n < 2 {
		return fmt.Errorf("ward %s has %d circuit; there is none to switch to", ward.ID, n)
	}
	all, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	ping := all[0].ping
	circuit := impair.Target{Circuit: p.primary(ward).ID}
	where, err := p.rides(ctx, ping, circuit)
	if err != nil {
		return err
	}
	from := ping.Mark()
	if err := p.fault(ctx, circuit, impair.Fault{Kind: impair.Loss, LossRatio: brownLoss}); err != nil {
		return err
	}
	late := p.until(ctx, brownout+15*time.Second, "leaving the circuit", func(context.Context) (bool, error) {
		to := ping.Mark() - settle
		c := ping.Since(from, to)
		return c.Lost > 0 && to-c.LastLost > 3*time.Second, nil
	})
	c := ping.Since(from, ping.Mark()-settle)
	took := c.LastLost - from
	e := Event{Name: "leaves the circuit", OutageMS: took.Milliseconds(), Lost: c.Lost, ExpectedMS: brownout.Milliseconds()}
	e.OK = late == nil && took <= brownout
	e.Detail = fmt.Sprintf("loss of %.0f %% each way; %s", 100*brownLoss, where)
	p.event(e)
	return p.through(ctx, "circuit healed", failover, 8*time.Second, all, func() error { return p.heal(ctx) })
}

// looksEvery is the pause between two looks: the daemons' own counters see what
// happens between them.
const looksEvery = time.Second

// looks holds the lab to being healthy and the pings to losing nothing.
func looks(ctx context.Context, p *play) error {
	all, stop, err := p.watch(ctx, p.wards()...)
	if err != nil {
		return err
	}
	defer stop()
	length := p.Steady
	if length == 0 {
		length = time.Minute
	}
	before, err := p.Lab.Lost(ctx)
	if err != nil {
		return err
	}
	flaps, asked, sessions := 0, 0, 0
	every := pace(len(all))
	err = p.through(ctx, "steady", max(500*time.Millisecond, 4*every), 0, all, func() error {
		for end := time.Now().Add(length); time.Now().Before(end); {
			s, err := p.Lab.Status(ctx)
			if err != nil {
				return err
			}
			asked++
			sessions = s.BGP.Want
			if !s.Healthy {
				flaps++
				p.say("  %s", s)
			}
			if err := pause(ctx, max(5, time.Duration(len(all)))*looksEvery); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.event(Event{Name: "always healthy", Lost: flaps, OK: flaps == 0, Detail: fmt.Sprintf("%d looks in %s; every ward was pinged every %s", asked, length, every)})
	after, err := p.Lab.Lost(ctx)
	if err != nil {
		return err
	}
	p.event(Event{Name: "no session ended", Lost: after - before, OK: after == before, Detail: fmt.Sprintf("of %d, as the routing daemons count", sessions)})
	return nil
}
