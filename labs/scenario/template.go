package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab"
)

// wholeBack is how long a wrong template may be in force anywhere, from its
// rollout's start to the end of its return.
const wholeBack = 2 * time.Minute

// badTemplate is the profile of all wards that opens everything to everybody but
// staff.
const badTemplate = "phuong-chuan"

// templateCuts gives all wards one shared profile that cuts staff off.
func templateCuts(inv *inventory.Inventory) {
	p := inventory.Profile{ID: badTemplate, Description: "Mẫu chung sai: cắt nhân viên khỏi trung tâm dữ liệu"}
	for _, x := range inv.Permits {
		others := slices.DeleteFunc(slices.Clone(x.From), func(k inventory.SegmentKind) bool { return k == inventory.Staff })
		if len(others) > 0 {
			p.Opens = append(p.Opens, inventory.Opening{Permit: x.ID, From: others})
		}
	}
	inv.Profiles = append(slices.Clone(inv.Profiles), p)
	inv.Sites = slices.Clone(inv.Sites)
	for i := range inv.Sites {
		if inv.Sites[i].Kind != inventory.Hub {
			inv.Sites[i].Profile, inv.Sites[i].Opens = badTemplate, nil
		}
	}
}

// wrongTemplate offers the template: the proof must refuse it; with the proof
// waived, the first wave of wards must stop it and all of it must return.
func wrongTemplate(ctx context.Context, p *play) error {
	if err := p.Lab.Healthy(ctx, time.Minute); err != nil {
		return err
	}
	all, stop, err := p.watch(ctx, p.wards()...)
	if err != nil {
		return err
	}
	defer stop()
	before := map[inventory.DeviceID]string{}
	for _, s := range p.Lab.Topology.Sites {
		d, err := p.device(ctx, s)
		if err != nil {
			return err
		}
		before[s.Device] = d.ConfigHash
	}
	rev, err := p.propose(ctx, "Mẫu chung của mọi phường", templateCuts)
	if err != nil {
		return err
	}
	if err := p.refusedUnproven(ctx, rev); err != nil {
		return err
	}
	err = p.as(netlab.Security, func(c *client.Client) error {
		_, err := c.Waive(ctx, rev.Number, client.NewWaiver{Hash: rev.Hash, Reason: "kịch bản: ai đó nhận rủi ro", Until: time.Now().Add(time.Hour)})
		return err
	})
	if err != nil {
		return fmt.Errorf("waive the proof: %w", err)
	}
	from := make([]time.Duration, len(all))
	for i, w := range all {
		from[i] = w.ping.Mark()
	}
	begun := time.Now()
	var roll client.Rollout
	err = p.as(netlab.Engineer, func(c *client.Client) (err error) {
		roll, err = c.StartRollout(ctx, rev.Number)
		return err
	})
	if err != nil {
		return fmt.Errorf("roll the waived revision out: %w", err)
	}
	if roll, err = p.ended(ctx, roll); err != nil {
		return err
	}
	took := time.Since(begun)
	if err := p.steady(ctx, 30*time.Second, all...); err != nil {
		p.say("  %v", err)
	}
	p.event(Event{
		Name: "halted and returned whole", OutageMS: took.Milliseconds(), ExpectedMS: wholeBack.Milliseconds(),
		OK: roll.State == "halted" && roll.Returned && took <= wholeBack, Detail: roll.Reason,
	})
	reached := firstWards(roll)
	for i, w := range all {
		e := judge("ward "+string(w.site.ID), w.ping.Since(from[i], w.ping.Mark()-settle), 0)
		if slices.Contains(reached, w.site.Device) {
			e.ExpectedMS, e.OK, e.Detail = reverted.Milliseconds(), e.OutageMS <= reverted.Milliseconds(), "of the first wave"
		} else {
			e.ExpectedMS, e.OK, e.Detail = unnoticed.Milliseconds(), e.OutageMS <= unnoticed.Milliseconds(), "never reached"
		}
		p.event(e)
	}
	same := true
	for _, s := range p.Lab.Topology.Sites {
		d, err := p.device(ctx, s)
		if err != nil {
			return err
		}
		same = same && d.ConfigHash == before[s.Device]
	}
	p.event(Event{Name: "every box runs what it ran", OK: same, Detail: fmt.Sprintf("%d boxes", len(before))})
	return p.undo(ctx)
}

// firstWards are the devices of the first wave that is no hub's.
func firstWards(r client.Rollout) []inventory.DeviceID {
	for _, w := range r.Waves {
		if strings.HasPrefix(w.Name, "wards") {
			return w.Devices
		}
	}
	return nil
}

// propose edits the inventory and makes an approved revision of it.
func (p *play) propose(ctx context.Context, message string, edit func(*inventory.Inventory)) (client.RevisionInfo, error) {
	var rev client.RevisionInfo
	err := p.as(netlab.Engineer, func(c *client.Client) error {
		inv, version, err := c.Inventory(ctx)
		if err != nil {
			return err
		}
		var before, after bytes.Buffer
		if err := inventory.Encode(&before, inv); err != nil {
			return err
		}
		edit(&inv)
		if err := inventory.Encode(&after, inv); err != nil {
			return err
		}
		if _, err := c.ImportInventory(ctx, after.Bytes(), version); err != nil {
			return fmt.Errorf("import: %w", err)
		}
		p.restore = append(p.restore, func(ctx context.Context) error { return p.putBack(ctx, before.Bytes()) })
		rev, err = c.CreateRevision(ctx, client.NewRevision{Message: message})
		return err
	})
	if err == nil {
		err = p.as(netlab.Approver, func(c *client.Client) error {
			_, err := c.Approve(ctx, rev.Number, client.NewApproval{Hash: rev.Hash, Comment: "Đã xem kế hoạch"})
			return err
		})
	}
	if err != nil {
		return rev, fmt.Errorf("propose a revision (%s): %w", message, err)
	}
	return rev, nil
}

// refusedUnproven holds the plan of rev to a counterexample from staff, and its
// rollout to being refused for it.
func (p *play) refusedUnproven(ctx context.Context, rev client.RevisionInfo) error {
	return p.as(netlab.Engineer, func(c *client.Client) error {
		plan, err := c.Plan(ctx, rev.Number)
		if err != nil {
			return err
		}
		shown := ""
		for _, x := range plan.Proof.Counterexamples {
			if strings.Contains(x.Intent, string(inventory.Staff)) && x.Packet != nil {
				shown = fmt.Sprintf("%s: %s → %s port %d, %d steps", x.Intent, x.Packet.Src, x.Packet.Dst, x.Packet.DPort, len(x.Path))
				break
			}
		}
		_, err = c.StartRollout(ctx, rev.Number)
		var problem *client.Problem
		refused := errors.As(err, &problem) && problem.Type == client.TypeUnproven
		p.event(Event{Name: "refused by the proof", OK: refused && !plan.Proof.Holds && shown != "", Detail: shown})
		if !refused {
			return fmt.Errorf("the rollout of an unproven revision was not refused: %v", err)
		}
		return nil
	})
}
