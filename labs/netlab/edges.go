package netlab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// ports is the file that tells a box before its first configuration which port
// leads to which circuit.
type ports struct {
	Circuits []edge.Circuit `json:"circuits"`
}

// portsOf are the WAN ports of a site as its installer would write them down.
func portsOf(inv inventory.Inventory, site inventory.SiteID) ports {
	var out ports
	for _, c := range inv.Index().SiteCircuits(site) {
		e := edge.Circuit{Name: string(c.ID), Kind: c.Kind, UpBPS: c.UpBPS, MTU: c.MTU, Port: c.Port, Addressing: c.Addressing}
		if c.Addressing == inventory.Static {
			e.Address, e.Gateway = c.Address, c.Gateway
		}
		out.Circuits = append(out.Circuits, e)
	}
	return out
}

// writeBundles writes the devices' enrolment bundles and ports into the lab's
// directory, where their agents take them from at their first start.
func (l *Lab) writeBundles(ctx context.Context, as *client.Client, sites []Site) error {
	ids := make([]inventory.DeviceID, len(sites))
	for i, s := range sites {
		ids[i] = s.Device
	}
	b, err := as.Enrol(ctx, ids...)
	if err != nil {
		return fmt.Errorf("one-time tokens: %w", err)
	}
	for _, t := range b.Tokens {
		s, ok := find(sites, func(s Site) bool { return s.Device == t.Device })
		if !ok {
			return fmt.Errorf("one-time tokens: the controller made one for %s, which was not asked for", t.Device)
		}
		if err := l.keepBundle(s, b, t); err != nil {
			return fmt.Errorf("enrolment bundle of %s: %w", t.Device, err)
		}
	}
	return nil
}

// keepBundle writes the bundle and the ports of one device.
func (l *Lab) keepBundle(s Site, b client.EnrolmentBundle, t client.EnrolmentToken) error {
	if err := os.MkdirAll(l.path("bundles"), 0o700); err != nil {
		return err
	}
	for suffix, v := range map[string]any{
		".json": enrol.Bundle{
			EnrolURL: b.EnrolURL, Channel: b.Channel, CAURL: b.CAURL, RootPEM: b.RootPEM,
			Device: t.Device, Serial: t.Serial, Token: t.Token,
		},
		".ports.json": portsOf(l.City, s.ID),
	} {
		text, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(l.path("bundles", string(t.Device)+suffix), text, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// StartEdge starts a site's agent in its namespace. It is nothing to start one
// that runs.
func (l *Lab) StartEdge(s Site) error {
	if l.procs.pid(string(s.Device)) != 0 {
		return nil
	}
	dir := l.StateDir(s.Device)
	for _, d := range []string{dir, l.runDir(s)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("directories of %s: %w", s.Device, err)
		}
	}
	return l.procs.start(s.NS, string(s.Device), append([]string{l.state.Edge}, l.edgeArgs(s, dir)...)...)
}

// edgeArgs are the arguments of a site's agent.
func (l *Lab) edgeArgs(s Site, dir string) []string {
	return []string{
		"run", "--host", "linux", "--state", dir,
		"--bundle", l.path("bundles", string(s.Device)+".json"),
		"--ports", l.path("bundles", string(s.Device)+".ports.json"),
		"--frr-pathspace", s.NS, "--run-dir", l.runDir(s),
	}
}

// runDirs holds what a box's boot forgets; a short path, for sockets are in it.
func (l *Lab) runDirs() string { return "/run/wardnet-lab-" + l.Topology.Prefix }

func (l *Lab) runDir(s Site) string { return filepath.Join(l.runDirs(), string(s.Device)) }

// StopEdge ends a site's agent, and nothing else of its box; kill: without a
// warning.
func (l *Lab) StopEdge(s Site, kill bool) error {
	if kill {
		return l.procs.kill(string(s.Device))
	}
	return l.procs.stop(string(s.Device))
}

// AgentPID is the process of a site's agent; 0: it does not run.
func (l *Lab) AgentPID(s Site) int { return l.procs.pid(string(s.Device)) }

// patience is how long to wait for something that a lab of few sites has done
// within least: all share one machine.
func (l *Lab) patience(least time.Duration) time.Duration {
	return least + time.Duration(len(l.Topology.Sites))*3*time.Second
}

// enrolled waits until the devices hold a certificate and are connected.
func (l *Lab) enrolled(ctx context.Context, as *client.Client, sites []Site) error {
	return l.wait(ctx, l.patience(time.Minute), "enrolment", func(ctx context.Context) (bool, string, error) {
		for _, s := range sites {
			if err := l.procs.dead(string(s.Device)); err != nil {
				return false, "", err
			}
		}
		all, err := as.Devices(ctx)
		if err != nil {
			return false, "", err
		}
		enrolled, connected := 0, 0
		for _, d := range all {
			if _, ours := find(sites, func(s Site) bool { return s.Device == d.ID }); ours {
				enrolled += one(d.Enrolled)
				connected += one(d.Connected)
			}
		}
		return connected == len(sites), fmt.Sprintf("%d of %d enrolled, %d connected", enrolled, len(sites), connected), nil
	})
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Roll makes a revision of the inventory in force, has another person approve
// it, and rolls it out.
func (l *Lab) Roll(ctx context.Context, message string) error {
	engineer, err := l.Client(Engineer)
	if err != nil {
		return err
	}
	defer engineer.Close()
	rev, err := engineer.CreateRevision(ctx, client.NewRevision{Message: message})
	if err != nil {
		return fmt.Errorf("make a revision: %w", err)
	}
	return l.rollOut(ctx, engineer, rev)
}

// rollOut has another person approve a revision and rolls it out.
func (l *Lab) rollOut(ctx context.Context, engineer *client.Client, rev client.RevisionInfo) error {
	approver, err := l.Client(Approver)
	if err != nil {
		return err
	}
	defer approver.Close()
	if _, err := approver.Approve(ctx, rev.Number, client.NewApproval{Hash: rev.Hash, Comment: "Đã xem kế hoạch"}); err != nil {
		return fmt.Errorf("approve revision %d: %w", rev.Number, err)
	}
	roll, err := engineer.StartRollout(ctx, rev.Number)
	if err != nil {
		return fmt.Errorf("roll out revision %d: %w", rev.Number, err)
	}
	return l.wait(ctx, l.patience(5*time.Minute), "rollout", func(ctx context.Context) (bool, string, error) {
		r, err := engineer.Rollout(ctx, roll.ID)
		if err != nil {
			return false, "", err
		}
		if r.Ended != nil && r.State != "done" {
			return false, "", fmt.Errorf("it ended as %s: %s", r.State, r.Reason)
		}
		return r.State == "done", fmt.Sprintf("%d of %d devices, wave %s", r.Done, r.Total, running(r)), nil
	})
}

func running(r client.Rollout) string {
	w, ok := find(r.Waves, func(w client.Wave) bool { return w.State == "running" })
	if !ok {
		return r.State
	}
	return w.Name
}
