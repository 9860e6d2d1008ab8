package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/labs/netlab"
)

// rekeyed is how long the edges may take to come to new certificates after
// their issuer was distrusted.
const rekeyed = 60 * time.Second

// distrusted plays the theft of the devices issuer's key: its trust ends while
// packets pass, every edge fetches a new certificate by itself, and the tunnels,
// which stand on other keys, lose nothing.
func distrusted(ctx context.Context, p *play) error {
	all, stop, err := p.watch(ctx, p.wards()...)
	if err != nil {
		return err
	}
	defer stop()
	begin := time.Now()
	var report client.Distrusted
	err = p.through(ctx, "tunnels while the devices issuer is distrusted", failover, time.Second, all, func() error {
		return p.as(netlab.Security, func(c *client.Client) (err error) {
			report, err = c.DistrustIssuer(ctx, "devices", client.DistrustIssuer{Reason: "Diễn tập: khóa của CA thiết bị bị lộ"})
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("distrust the devices issuer: %w", err)
	}
	var d client.Drill
	late := p.until(ctx, 2*rekeyed, "new certificates", func(ctx context.Context) (bool, error) {
		return len(d.Remaining) == 0 && d.Affected > 0, p.as(netlab.Security, func(c *client.Client) error {
			list, err := c.Issuers(ctx)
			for _, i := range list {
				for _, g := range i.Generations {
					if i.Issuer == "devices" && g.Drill != nil {
						d = *g.Drill
					}
				}
			}
			return err
		})
	})
	took := time.Duration(d.Last * float64(time.Second))
	p.event(Event{
		Name: "re-keyed", OutageMS: took.Milliseconds(), ExpectedMS: rekeyed.Milliseconds(), OK: late == nil && took <= rekeyed,
		Detail: fmt.Sprintf("%d of %d devices, first after %.1f s, half %.1f s, all %.1f s; not yet: %v", d.Rekeyed, d.Affected, d.First, d.Half, d.Last, d.Remaining),
	})
	if err := p.Lab.Healthy(ctx, admitted); err != nil {
		return err
	}
	p.event(Event{Name: "all edges are managed again", OutageMS: time.Since(begin).Milliseconds(), ExpectedMS: admitted.Milliseconds(), OK: time.Since(begin) <= admitted, Detail: fmt.Sprintf("%d holders told", len(report.Holders))})
	return nil
}
