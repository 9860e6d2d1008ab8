package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/probe"
)

// play is one run of a scenario.
type play struct {
	*World
	scenario Scenario
	events   []Event
	// restore ends what faults do not cover: an inventory that was changed, for
	// instance. Last in, first out.
	restore []func(context.Context) error
}

// prepare asks for a healthy lab without faults.
func (p *play) prepare(ctx context.Context) error {
	if n := len(p.wards()); n < p.scenario.Wards {
		return fmt.Errorf("%w: scenario %s needs %d wards, the lab has %d", inventory.ErrInvalid, p.scenario.Name, p.scenario.Wards, n)
	}
	if left, err := p.Bench.List(); err != nil || len(left) > 0 {
		return errors.Join(err, fmt.Errorf("%w: the lab has %d faults; run 'wardnet lab fault heal' first", inventory.ErrConflict, len(left)))
	}
	return p.Lab.Healthy(ctx, 30*time.Second)
}

// finish heals everything, whatever happened, and waits until all is well.
func (p *play) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 8*time.Minute)
	defer cancel()
	_, err := p.Bench.Heal(ctx, impair.All)
	_, startErr := p.Lab.StartController(ctx)
	err = errors.Join(err, startErr)
	for i := len(p.restore) - 1; i >= 0; i-- {
		err = errors.Join(err, p.restore[i](ctx))
	}
	for _, s := range p.Lab.Topology.Sites {
		err = errors.Join(err, p.Lab.StartEdge(s))
	}
	if err = errors.Join(err, p.Lab.Healthy(ctx, 90*time.Second)); err != nil {
		return fmt.Errorf("heal the lab after %s: %w", p.scenario.Name, err)
	}
	return nil
}

func (p *play) event(e Event) {
	p.events = append(p.events, e)
	verdict := "ok"
	if !e.OK {
		verdict = "NOT OK"
	}
	p.say("  %-32s %6d ms of %6d, %d lost: %s %s", e.Name, e.OutageMS, e.ExpectedMS, e.Lost, verdict, e.Detail)
}

// judge makes the event of a course: the outage must keep to what is expected.
func judge(name string, c probe.Course, expected time.Duration) Event {
	e := Event{Name: name, OutageMS: c.Outage.Milliseconds(), Lost: c.Lost, ExpectedMS: expected.Milliseconds()}
	e.OK = c.Sent > 0 && c.Outage <= expected
	if c.Sent == c.Lost {
		e.OK, e.Detail = false, "no packet passed"
	}
	return e
}

// watched is a ward with its ping.
type watched struct {
	site netlab.Site
	ping *probe.Pinger
}

// pace is how often each of n wards is pinged: every 10 ms, and all of many
// together 200 times a second, for the pings are the lab's greatest load.
func pace(n int) time.Duration {
	if n <= 4 {
		return 10 * time.Millisecond
	}
	return time.Duration(n) * 5 * time.Millisecond
}

// watch starts a ping at each ward and waits until it is answered steadily.
func (p *play) watch(ctx context.Context, sites ...netlab.Site) ([]watched, func(), error) {
	var out []watched
	stop := func() {
		for _, w := range out {
			w.ping.Stop()
		}
	}
	for _, s := range sites {
		f, err := p.flow(s)
		if err != nil {
			stop()
			return nil, nil, err
		}
		f.Interval = pace(len(sites))
		ping, err := probe.Start(ctx, f)
		if err != nil {
			stop()
			return nil, nil, err
		}
		out = append(out, watched{s, ping})
	}
	if err := p.steady(ctx, 20*time.Second, out...); err != nil {
		stop()
		return nil, nil, err
	}
	return out, stop, nil
}

// settle is how long the ping must be answered without a gap to be steady, and
// how old a packet must be to count as lost.
const settle = time.Second

// steady waits until each ping was answered without a gap for a while.
func (p *play) steady(ctx context.Context, limit time.Duration, all ...watched) error {
	since := make([]time.Duration, len(all))
	for i, w := range all {
		since[i] = w.ping.Mark()
	}
	return p.until(ctx, limit, "a steady ping", func(context.Context) (bool, error) {
		for i, w := range all {
			to := w.ping.Mark() - 300*time.Millisecond
			from := max(to-settle, since[i])
			c := w.ping.Since(from, to)
			if to-from < settle || c.Sent == 0 || c.Lost > 0 {
				return false, nil
			}
		}
		return true, nil
	})
}

// through does something while all pings run, then waits until they are steady
// for the whole of hold, and judges the longest gap of each.
func (p *play) through(ctx context.Context, name string, expected, hold time.Duration, all []watched, do func() error) error {
	expected *= time.Duration(max(p.Slack, 1))
	from := make([]time.Duration, len(all))
	for i, w := range all {
		from[i] = w.ping.Mark()
	}
	if err := do(); err != nil {
		return err
	}
	if err := pause(ctx, hold); err != nil {
		return err
	}
	late := p.steady(ctx, expected+20*time.Second, all...)
	for i, w := range all {
		e := judge(name, w.ping.Since(from[i], w.ping.Mark()-settle), expected)
		if len(all) > 1 {
			e.Name += " " + string(w.site.ID)
		}
		if late != nil {
			e.OK, e.Detail = false, strings.TrimSpace(e.Detail+" not steady again")
		}
		p.event(e)
	}
	return nil
}

// fault puts a fault on a target.
func (p *play) fault(ctx context.Context, t impair.Target, f impair.Fault) error {
	ports, err := impair.Ports(p.Lab.Topology, t)
	if err != nil {
		return err
	}
	f.Target, f.Ports = t.String(), ports
	return p.Bench.Make(ctx, f)
}

// kill ends a process without warning.
func (p *play) kill(ctx context.Context, process string) error {
	return p.Bench.Make(ctx, impair.Fault{Kind: impair.Killed, Target: process, Process: process})
}

func (p *play) heal(ctx context.Context) error {
	_, err := p.Bench.Heal(ctx, impair.All)
	return err
}

// intact probes everything: no packet may differ from the intent.
func (p *play) intact(ctx context.Context, when string) error {
	r, err := p.Probe(ctx, probe.Config{})
	if err != nil {
		return err
	}
	e := Event{Name: "probe " + when, Lost: r.Differences, OK: r.Differences == 0 && r.Allowed > 0, Detail: fmt.Sprintf("%d pairs, %d differences, %.1f s", r.Pairs, r.Differences, r.Seconds)}
	for i, d := range r.List {
		if i == 3 {
			e.Detail += "; …"
			break
		}
		e.Detail += fmt.Sprintf("; %s: want %s, got %s", d, d.Want, d.Got)
	}
	p.event(e)
	return nil
}
