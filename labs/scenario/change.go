package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab"
)

// rollsEnd bounds how long a rollout may take to succeed, or to halt and
// return.
const rollsEnd = 4 * time.Minute

// change edits the inventory, has the revision of it approved and starts its
// rollout. The inventory of before is put back in force when the scenario ends.
func (p *play) change(ctx context.Context, message string, edit func(*inventory.Inventory)) (client.Rollout, error) {
	var roll client.Rollout
	rev, err := p.propose(ctx, message, edit)
	if err == nil {
		err = p.as(netlab.Engineer, func(c *client.Client) (err error) {
			roll, err = c.StartRollout(ctx, rev.Number)
			return err
		})
	}
	if err != nil {
		return roll, fmt.Errorf("change the inventory (%s): %w", message, err)
	}
	return roll, nil
}

// putBack makes an earlier inventory the one in force.
func (p *play) putBack(ctx context.Context, document []byte) error {
	err := p.as(netlab.Engineer, func(c *client.Client) error {
		_, version, err := c.Inventory(ctx)
		if err != nil {
			return err
		}
		res, err := c.ImportInventory(ctx, document, version)
		if err != nil || !res.Changed {
			return err
		}
		roll, err := p.roll(ctx, c, "Trở lại nội dung trước kịch bản")
		if err != nil {
			return err
		}
		roll, err = p.ended(ctx, roll)
		if err == nil && roll.State != "done" {
			err = fmt.Errorf("rollout %s ended as %s: %s", roll.ID, roll.State, roll.Reason)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("put the inventory back: %w", err)
	}
	return nil
}

func (p *play) roll(ctx context.Context, c *client.Client, message string) (client.Rollout, error) {
	rev, err := c.CreateRevision(ctx, client.NewRevision{Message: message})
	if err != nil {
		return client.Rollout{}, fmt.Errorf("make a revision: %w", err)
	}
	err = p.as(netlab.Approver, func(c *client.Client) error {
		_, err := c.Approve(ctx, rev.Number, client.NewApproval{Hash: rev.Hash, Comment: "Đã xem kế hoạch"})
		return err
	})
	if err != nil {
		return client.Rollout{}, fmt.Errorf("approve revision %d: %w", rev.Number, err)
	}
	return c.StartRollout(ctx, rev.Number)
}

// ended waits for the end of a rollout, however it ends.
func (p *play) ended(ctx context.Context, roll client.Rollout) (client.Rollout, error) {
	err := p.until(ctx, rollsEnd, "the rollout", func(ctx context.Context) (bool, error) {
		return roll.Ended != nil, p.as(netlab.Engineer, func(c *client.Client) (err error) {
			roll, err = c.Rollout(ctx, roll.ID)
			return err
		})
	})
	return roll, err
}

func (p *play) device(ctx context.Context, s netlab.Site) (d client.Device, err error) {
	err = p.as(netlab.Engineer, func(c *client.Client) (err error) {
		d, err = c.Device(ctx, s.Device)
		return err
	})
	return d, err
}

// cutsOff pushes a config whose circuits lead nowhere to a ward. The edge must
// come back by itself, and the controller must tell which check failed.
func cutsOff(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	before, err := p.device(ctx, ward)
	if err != nil {
		return err
	}
	all, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	var roll client.Rollout
	ping := all[0].ping
	from := ping.Mark()
	roll, err = p.change(ctx, "Cấu hình sai: mọi đường truyền của một phường", func(inv *inventory.Inventory) {
		n := byte(0)
		for i, c := range inv.Circuits {
			if c.Site != ward.ID {
				continue
			}
			// A range of nobody's: the carrier answers for none of it.
			inv.Circuits[i].Addressing = inventory.Static
			inv.Circuits[i].Address = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 250, 4*n + 2}), 30)
			inv.Circuits[i].Gateway = netip.AddrFrom4([4]byte{198, 18, 250, 4*n + 1})
			n++
		}
	})
	if err != nil {
		return err
	}
	cut := p.until(ctx, time.Minute, "the ward being cut off", func(context.Context) (bool, error) {
		to := ping.Mark() - 300*time.Millisecond
		c := ping.Since(to-settle, to)
		return c.Sent > 0 && c.Lost == c.Sent, nil
	})
	if cut != nil {
		return fmt.Errorf("the bad config changed nothing: %w", cut)
	}
	if err := p.steady(ctx, reverted+30*time.Second, all...); err != nil {
		p.say("  %v", err)
	}
	e := judge("reverted by the edge", ping.Since(from, ping.Mark()-settle), reverted)
	p.event(e)
	if roll, err = p.ended(ctx, roll); err != nil {
		return err
	}
	after, err := p.device(ctx, ward)
	if err != nil {
		return err
	}
	said := roll.Reason + " " + after.Error
	p.event(Event{
		Name: "reported with the failed check", OK: roll.State != "done" && (strings.Contains(said, "bfd/") || strings.Contains(said, "prefix/") || strings.Contains(said, "service/")),
		Detail: fmt.Sprintf("the rollout ended as %s: %s", roll.State, strings.TrimSpace(said)),
	})
	p.event(Event{Name: "the old config is in force", OK: after.ConfigHash == before.ConfigHash, Detail: after.ConfigHash[:min(12, len(after.ConfigHash))]})
	return p.undo(ctx)
}

// undo puts back what change changed, at once.
func (p *play) undo(ctx context.Context) error {
	var errs []error
	for i := len(p.restore) - 1; i >= 0; i-- {
		errs = append(errs, p.restore[i](ctx))
	}
	p.restore = nil
	return errors.Join(errs...)
}

// refused pushes a config that names a port the box does not have.
func refused(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	if err := p.Lab.Healthy(ctx, time.Minute); err != nil {
		return err
	}
	before, err := p.device(ctx, ward)
	if err != nil {
		return err
	}
	all, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	var roll client.Rollout
	err = p.through(ctx, "refused by the box", 500*time.Millisecond, time.Second, all, func() (err error) {
		roll, err = p.change(ctx, "Cấu hình sai: cổng không có thật", func(inv *inventory.Inventory) {
			for i := range inv.Sites {
				s := &inv.Sites[i]
				for j := range s.Segments {
					if s.ID == ward.ID && s.Segments[j].Kind == inventory.Mgmt {
						s.Segments[j].Port = "nosuchport"
					}
				}
			}
		})
		if err == nil {
			roll, err = p.ended(ctx, roll)
		}
		return err
	})
	if err != nil {
		return err
	}
	after, err := p.device(ctx, ward)
	if err != nil {
		return err
	}
	p.event(Event{Name: "nothing changed", OK: after.ConfigHash == before.ConfigHash && roll.State != "done", Detail: strings.TrimSpace(roll.State + ": " + roll.Reason)})
	return p.undo(ctx)
}
