package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/probe"
	"github.com/wardnet/wardnet/pki/enrol"
)

// revoked revokes a ward's certificate: its live tunnels must be cut at once.
func revoked(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	d, err := p.device(ctx, ward)
	if err != nil {
		return err
	}
	all, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	p.restore = append(p.restore, func(ctx context.Context) error { return p.readmit(ctx, ward) })
	ping := all[0].ping
	from := ping.Mark()
	err = p.as(netlab.Security, func(c *client.Client) error {
		_, err := c.Revoke(ctx, d.CertSerial, "Kịch bản thử nghiệm: thiết bị bị mất")
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke the certificate of %s: %w", ward.Device, err)
	}
	if err := pause(ctx, 2*cutOff); err != nil {
		return err
	}
	c := ping.Since(from, ping.Mark()-settle)
	took := max(0, c.LastAnswered-from)
	p.event(Event{Name: "cut off", OutageMS: took.Milliseconds(), Lost: c.Lost, ExpectedMS: cutOff.Milliseconds(), OK: c.Lost > 0 && took <= cutOff})
	return nil
}

// silent holds a revoked ward to passing nothing while do runs.
func (p *play) silent(ctx context.Context, name string, ward netlab.Site, do func() error) error {
	f, err := p.flow(ward)
	if err != nil {
		return err
	}
	ping, err := probe.Start(ctx, f)
	if err != nil {
		return err
	}
	err = do()
	c := ping.Stop()
	if err != nil {
		return err
	}
	p.event(Event{Name: name, Lost: c.Lost, OK: c.Sent > 0 && c.Lost == c.Sent, Detail: fmt.Sprintf("%d packets sent, %d answered", c.Sent, c.Sent-c.Lost)})
	return nil
}

// hubReverts pushes a config to the ward's first hub that it must revert.
func hubReverts(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	hub := p.hubOf(ward)
	return p.silent(ctx, "nothing passes while "+string(hub)+" reverts", ward, func() error {
		roll, err := p.change(ctx, "Cấu hình sai: địa chỉ của trung tâm", func(inv *inventory.Inventory) {
			for i, c := range inv.Circuits {
				if c.Site == hub {
					inv.Circuits[i].Address = netip.PrefixFrom(c.Address.Addr().Next(), c.Address.Bits())
				}
			}
		})
		if err == nil {
			roll, err = p.ended(ctx, roll)
		}
		if err == nil && roll.State == "done" {
			err = errors.New("the bad config was kept")
		}
		if err != nil {
			return err
		}
		p.say("  the rollout ended as %s: %s", roll.State, roll.Reason)
		return pause(ctx, 5*time.Second)
	})
}

// hubReboots kills the controller and reboots the ward's other hub; a ward in
// good standing proves, with the first hub silent, that it works.
func hubReboots(ctx context.Context, p *play) error {
	ward, other := p.wards()[0], p.wards()[1]
	first := p.hubOf(ward)
	var second netlab.Site
	for _, s := range p.Lab.Topology.Sites {
		if s.Role == inventory.RoleHub && s.ID != first {
			second = s
		}
	}
	if second.ID == "" {
		return fmt.Errorf("%w: the lab has one hub only", inventory.ErrInvalid)
	}
	all, stop, err := p.watch(ctx, other)
	if err != nil {
		return err
	}
	defer stop()
	return p.silent(ctx, "nothing passes after "+string(second.ID)+" rebooted", ward, func() error {
		if err := p.kill(ctx, "controller"); err != nil {
			return err
		}
		if err := p.Lab.Reboot(ctx, second); err != nil {
			return err
		}
		if err := pause(ctx, 15*time.Second); err != nil {
			return err
		}
		err := p.through(ctx, string(second.ID)+" serves alone", rebooted, 2*time.Second, all, func() error {
			return p.fault(ctx, impair.Target{Hub: first}, impair.Fault{Kind: impair.Silence})
		})
		if err != nil {
			return err
		}
		return pause(ctx, 5*time.Second)
	})
}

// comesAgain admits the revoked device anew: only then its packets pass.
func comesAgain(ctx context.Context, p *play) error {
	if err := p.heal(ctx); err != nil {
		return err
	}
	begin := time.Now()
	if err := p.undo(ctx); err != nil {
		return err
	}
	if err := p.Lab.Healthy(ctx, admitted); err != nil {
		return err
	}
	all, stop, err := p.watch(ctx, p.wards()[0])
	if err != nil {
		return err
	}
	stop()
	took := time.Since(begin)
	e := judge("admitted again", all[0].ping.Since(0, all[0].ping.Mark()-settle), admitted)
	e.OutageMS, e.OK = took.Milliseconds(), e.OK && took <= admitted
	p.event(e)
	return nil
}

// readmit lets a revoked device come as a new one: its disk is wiped and it
// enrols with a new one-time token.
func (p *play) readmit(ctx context.Context, s netlab.Site) error {
	if err := p.Lab.PowerOff(s); err != nil {
		return err
	}
	err := p.as(netlab.Engineer, func(c *client.Client) error {
		b, err := c.Enrol(ctx, s.Device)
		if err != nil {
			return err
		}
		for _, t := range b.Tokens {
			text, err := json.Marshal(enrol.Bundle{
				EnrolURL: b.EnrolURL, Channel: b.Channel, CAURL: b.CAURL, RootPEM: b.RootPEM,
				Device: t.Device, Serial: t.Serial, Token: t.Token,
			})
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(p.Lab.Dir, "bundles", string(t.Device)+".json"), text, 0o600); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = os.RemoveAll(p.Lab.StateDir(s.Device))
	}
	if err == nil {
		err = p.Lab.Reboot(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("admit %s again: %w", s.Device, err)
	}
	return nil
}
