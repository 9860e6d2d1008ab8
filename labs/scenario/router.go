package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/labs/clibox"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// driven is a router that the controller configures. Ids are never reused, so
// each play has another one.
type driven struct {
	*play
	id  inventory.DeviceID
	box *clibox.Box
}

// The management network between the controller and the router, for the
// scenario only.
var (
	managedFrom = netip.MustParsePrefix("10.255.255.1/30")
	managedAt   = netip.MustParsePrefix("10.255.255.2/30")
)

// joint is a link of the router with a hub, for the scenario only.
type joint struct {
	hub      netlab.Site
	at, peer netip.Prefix // of the hub's end and of the router's
}

// What the hubs' uplinks to the router are called, their port, and the router's
// AS number. It is not that of the data centre's: what it announces, too, is then
// no equal path beside the one that is in use, and carries nothing.
const (
	coreUplink = "core"
	corePort   = "core-up"
	coreASN    = 65099
)

// joints are the router's links, one with each hub.
func (p *play) joints() []joint {
	var out []joint
	for _, s := range p.Lab.Topology.Sites {
		if s.Role == inventory.RoleHub {
			n := byte(4 * len(out))
			at := func(host byte) netip.Prefix {
				return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 255, 254, n + host}), 30)
			}
			out = append(out, joint{s, at(1), at(2)})
		}
	}
	return out
}

// routerDriven lets the controller configure a router of the data centre by its
// command line, and somebody change it by hand. It is one beside the lab's own,
// with a link to each hub.
func routerDriven(ctx context.Context, pl *play) (err error) {
	if err := pl.Lab.Healthy(ctx, time.Minute); err != nil {
		return err
	}
	p := driven{play: pl, id: inventory.DeviceID(fmt.Sprintf("r-core-%d", time.Now().Unix()))}
	dc, ctl := netlab.Name(pl.Lab.Topology.Prefix, "core"), netlab.Name(pl.Lab.Topology.Prefix, "ctl")
	if err := p.manage(ctx, ctl, dc); err != nil {
		return err
	}
	name, err := os.Hostname() // FRR has no serial number and tells this
	if err != nil {
		return err
	}
	rev, err := p.propose(ctx, "Bộ định tuyến trung tâm dữ liệu", func(inv *inventory.Inventory) { p.declare(inv, name) })
	if err != nil {
		return err
	}
	stop, err := p.login(ctx, dc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	all, end, err := p.watch(ctx, p.wards()...)
	if err != nil {
		return err
	}
	defer end()
	if err := p.through(ctx, "the router is configured", failover, time.Second, all, func() error { return p.rolledOut(ctx, rev.Number) }); err != nil {
		return err
	}
	text, err := p.box.Vtysh(ctx, "show running-config")
	if err != nil {
		return err
	}
	if err := p.established(ctx); err != nil {
		return err
	}
	if err := p.secretsKept(ctx); err != nil {
		return err
	}
	hub, asn := p.joints()[0].at.Addr().String(), ""
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "router bgp "); ok {
			asn = rest
		}
	}
	p.event(Event{Name: "it runs what was asked", OK: strings.Contains(text, "neighbor "+hub+" ") && asn != "", Detail: "router bgp " + asn + ", neighbour " + hub})
	by := []string{"configure terminal", "router bgp " + asn, "no neighbor " + hub + " bfd"}
	d, err := p.changedByHand(ctx, by, hub)
	if err != nil {
		return err
	}
	if err := p.putBackByHand(ctx, d, hub); err != nil {
		return err
	}
	if d, err = p.changedByHand(ctx, by, hub); err != nil {
		return err
	}
	return p.adopted(ctx, d, hub)
}

// established counts the router's sessions: the rollout was to wait for them.
func (p *driven) established(ctx context.Context) error {
	text, err := p.box.Vtysh(ctx, "show bgp ipv4 unicast summary json")
	if err != nil {
		return err
	}
	var summary struct {
		Peers map[string]struct {
			State string `json:"state"`
		} `json:"peers"`
	}
	if err := json.Unmarshal([]byte(text), &summary); err != nil {
		return fmt.Errorf("sessions of %s: %w", p.id, err)
	}
	up, want := 0, len(p.joints())
	for _, x := range summary.Peers {
		if x.State == "Established" {
			up++
		}
	}
	p.event(Event{Name: "its sessions with the hubs are established", OK: up == want, Detail: fmt.Sprintf("%d of %d", up, want)})
	return nil
}

// declare puts the router into the inventory, at the end of an uplink more of
// each hub.
func (p *driven) declare(inv *inventory.Inventory, name string) {
	inv.Sites = slices.Clone(inv.Sites)
	site := inventory.SiteID("")
	for _, j := range p.joints() {
		for i := range inv.Sites {
			if s := &inv.Sites[i]; s.ID == j.hub.ID {
				s.Uplinks = append(slices.Clone(s.Uplinks), inventory.Uplink{
					Name: coreUplink, Port: corePort, Address: j.at, Peer: j.peer.Addr(), PeerASN: coreASN, Router: p.id,
				})
				if site == "" {
					site = s.ID
				}
			}
		}
	}
	inv.Routers = append(slices.Clone(inv.Routers), inventory.Router{
		ID: p.id, Serial: name, Site: site, Platform: inventory.PlatformFRR, Intended: inventory.InService,
		Management: managedAt.Addr().String() + ":" + clibox.Port, User: clibox.User,
	})
}

// manage joins the controller and the router by a network of their own, and the
// router and the hubs by another each.
func (p *play) manage(ctx context.Context, ctl, dc string) error {
	ip, err := program.Find("ip")
	if err != nil {
		return err
	}
	here := func(ctx context.Context, args ...string) error {
		out, err := exec.CommandContext(ctx, ip, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	undo := func(ctx context.Context) error { return here(ctx, "netns", "del", dc) }
	if netns.Exists(dc) { // of a run that was cut off
		if err := undo(ctx); err != nil {
			return err
		}
	}
	if err := here(ctx, "netns", "add", dc); err != nil {
		return err
	}
	p.restore = append(p.restore, undo)
	type command struct {
		ns   string
		args []string
	}
	all := []command{
		{ctl, []string{"link", "add", "mgmt-rt", "type", "veth", "peer", "name", "mgmt-rt", "netns", dc}},
		{ctl, []string{"addr", "add", managedFrom.String(), "dev", "mgmt-rt"}},
		{ctl, []string{"link", "set", "mgmt-rt", "up"}},
		{dc, []string{"addr", "add", managedAt.String(), "dev", "mgmt-rt"}},
		{dc, []string{"link", "set", "mgmt-rt", "up"}},
		{dc, []string{"link", "set", "lo", "up"}},
	}
	for _, j := range p.joints() {
		at := string(j.hub.ID)
		all = append(all,
			command{j.hub.NS, []string{"link", "add", corePort, "type", "veth", "peer", "name", at, "netns", dc}},
			command{j.hub.NS, []string{"link", "set", corePort, "up"}},
			command{dc, []string{"addr", "add", j.peer.String(), "dev", at}},
			command{dc, []string{"link", "set", at, "up"}})
	}
	for _, c := range all {
		if _, err := netns.Output(ctx, c.ns, ip, c.args...); err != nil {
			return err
		}
	}
	return nil
}

// login starts the router's SSH server with a certificate of the controller's CA.
func (p *driven) login(ctx context.Context, dc string) (func() error, error) {
	var trust client.SSHTrust
	err := p.as(netlab.Engineer, func(c *client.Client) (err error) {
		trust, err = c.SSHTrust(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	ca, _, _, _, err := ssh.ParseAuthorizedKey([]byte(trust.UserCA))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wardnet-router-")
	if err != nil {
		return nil, err
	}
	p.box, err = clibox.Start(ctx, clibox.Config{
		Space: dc, Dir: dir, UserCA: ca, Address: managedAt.Addr().String(),
		Certify: func(ctx context.Context, pub ssh.PublicKey) (cert *ssh.Certificate, err error) {
			err = p.as(netlab.Security, func(c *client.Client) error {
				h, err := c.CertifyHost(ctx, p.id, client.NewHostCertificate{PublicKey: string(ssh.MarshalAuthorizedKey(pub))})
				if err != nil {
					return err
				}
				key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(h.Certificate))
				if err != nil {
					return err
				}
				cert, _ = key.(*ssh.Certificate)
				return nil
			})
			return cert, err
		},
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return func() error { return errors.Join(p.box.Stop(), os.RemoveAll(dir)) }, nil
}

// rolledOut rolls revision n out and waits for its end.
func (p *play) rolledOut(ctx context.Context, n intent.Number) error {
	var roll client.Rollout
	err := p.as(netlab.Engineer, func(c *client.Client) (err error) {
		roll, err = c.StartRollout(ctx, n)
		return err
	})
	if err == nil {
		roll, err = p.ended(ctx, roll)
	}
	if err == nil && roll.State != "done" {
		err = fmt.Errorf("the rollout of revision %d ended as %s: %s", n, roll.State, roll.Reason)
	}
	return err
}

// changedByHand changes the router and holds the controller to telling it and to
// leaving it.
func (p *driven) changedByHand(ctx context.Context, by []string, hub string) (client.Drift, error) {
	core := netlab.Site{Device: p.id}
	before, err := p.drifts(ctx, core)
	if err != nil {
		return client.Drift{}, err
	}
	at := time.Now()
	if _, err := p.box.Vtysh(ctx, by...); err != nil {
		return client.Drift{}, err
	}
	var seen client.Drift
	late := p.until(ctx, found+20*time.Second, "the drift being told", func(ctx context.Context) (bool, error) {
		now, err := p.drifts(ctx, core)
		if len(now) > len(before) {
			seen = now[0]
		}
		return len(now) > len(before), err
	})
	took := time.Since(at)
	e := Event{Name: "a change by hand is told", OutageMS: took.Milliseconds(), ExpectedMS: found.Milliseconds(), OK: late == nil && took <= found && seen.State == "open"}
	if n := len(seen.Changes); n > 0 {
		e.Detail = fmt.Sprintf("%s (%d lines)", seen.Changes[n-1], n)
	}
	p.event(e)
	if err := pause(ctx, 10*time.Second); err != nil {
		return seen, err
	}
	text, err := p.box.Vtysh(ctx, "show running-config")
	p.event(Event{Name: "and left as it is", OK: err == nil && !strings.Contains(text, "neighbor "+hub+" bfd")})
	return seen, err
}

func (p *play) decideDrift(ctx context.Context, id, verb string) (d client.Drift, err error) {
	err = p.as(netlab.Engineer, func(c *client.Client) (err error) {
		d, err = c.DecideDrift(ctx, id, verb, client.DriftDecision{Reason: "kịch bản"})
		return err
	})
	return d, err
}

func (p *driven) putBackByHand(ctx context.Context, d client.Drift, hub string) error {
	if _, err := p.decideDrift(ctx, d.ID, "revert"); err != nil {
		return err
	}
	at := time.Now()
	late := p.until(ctx, time.Minute, "the router being put back", func(ctx context.Context) (bool, error) {
		text, err := p.box.Vtysh(ctx, "show running-config")
		if err != nil || !strings.Contains(text, "neighbor "+hub+" bfd") {
			return false, err
		}
		all, err := p.drifts(ctx, netlab.Site{Device: p.id})
		return len(all) > 0 && all[0].State == "returned", err
	})
	p.event(Event{Name: "put back when asked", OutageMS: time.Since(at).Milliseconds(), ExpectedMS: time.Minute.Milliseconds(), OK: late == nil})
	return late
}

func (p *driven) adopted(ctx context.Context, d client.Drift, hub string) error {
	d, err := p.decideDrift(ctx, d.ID, "adopt")
	if err != nil {
		return err
	}
	err = p.as(netlab.Approver, func(c *client.Client) error {
		rev, err := c.Revision(ctx, d.Adopts)
		if err != nil {
			return err
		}
		_, err = c.Approve(ctx, d.Adopts, client.NewApproval{Hash: rev.Hash, Comment: "Đã xem kế hoạch"})
		return err
	})
	if err == nil {
		err = p.rolledOut(ctx, d.Adopts)
	}
	if err != nil {
		return err
	}
	core := netlab.Site{Device: p.id}
	var last client.Drift
	late := p.until(ctx, time.Minute, "the drift being over", func(ctx context.Context) (bool, error) {
		all, err := p.drifts(ctx, core)
		if len(all) > 0 {
			last = all[0]
		}
		return last.State == "adopted", err
	})
	text, err := p.box.Vtysh(ctx, "show running-config")
	p.event(Event{Name: "adopted as a revision", OK: late == nil && err == nil && !strings.Contains(text, "neighbor "+hub+" bfd"), Detail: fmt.Sprintf("revision %d, drift %s", d.Adopts, last.State)})
	return errors.Join(late, err)
}
