package demo

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/sim"
	"github.com/wardnet/wardnet/pki/enrol"
)

// realEdges is how many edges are wardnet-edge processes of their own.
const realEdges = 2

// trim keeps the hubs and, evenly over the city, as many other sites as make n
// devices; 0 keeps all.
func trim(city inventory.Inventory, n int) inventory.Inventory {
	role := map[inventory.SiteID]inventory.DeviceRole{}
	for _, d := range city.Devices {
		role[d.Site] = d.Role
	}
	var hubs, rest []inventory.SiteID
	for _, s := range city.Sites {
		if role[s.ID] == inventory.RoleHub {
			hubs = append(hubs, s.ID)
		} else {
			rest = append(rest, s.ID)
		}
	}
	want := n - len(hubs)
	if n <= 0 || want >= len(rest) {
		return city
	}
	keep := map[inventory.SiteID]bool{}
	for _, id := range hubs {
		keep[id] = true
	}
	for i := range max(want, 0) {
		keep[rest[i*len(rest)/want]] = true
	}
	city.Sites = slices.DeleteFunc(slices.Clone(city.Sites), func(x inventory.Site) bool { return !keep[x.ID] })
	city.Devices = slices.DeleteFunc(slices.Clone(city.Devices), func(x inventory.Device) bool { return !keep[x.Site] })
	city.Circuits = slices.DeleteFunc(slices.Clone(city.Circuits), func(x inventory.Circuit) bool { return !keep[x.Site] })
	owners := map[string]bool{}
	for id := range keep {
		owners[inventory.SiteOwner(id)] = true
	}
	for _, d := range city.Devices {
		owners[inventory.DeviceOwner(d.ID)] = true
		for _, c := range city.Circuits {
			owners[inventory.TunnelOwner(c.ID, d.ID)] = true
		}
	}
	city.Allocations = slices.DeleteFunc(slices.Clone(city.Allocations), func(a inventory.Allocation) bool { return !owners[a.Owner] })
	return city
}

// cast takes every device of the story's city; the last two branches (or the
// last two sites of a small city) are real processes.
func (s *story) cast() {
	kind := map[inventory.SiteID]inventory.SiteKind{}
	for _, x := range s.cfg.City.Sites {
		kind[x.ID] = x.Kind
	}
	for _, d := range s.cfg.City.Devices {
		if d.Intended == inventory.InService {
			s.devices = append(s.devices, d)
		}
	}
	for i := len(s.devices) - 1; i >= 0 && len(s.real) < realEdges; i-- {
		if d := s.devices[i]; d.Role != inventory.RoleHub && (kind[d.Site] == inventory.Branch || s.cfg.Edges > 0) {
			s.real[d.Site] = true
		}
	}
	s.report.Devices = len(s.devices)
}

// enrolAll makes the one-time tokens, starts every edge, and waits until all
// hold a certificate.
func (s *story) enrolAll(ctx context.Context) error {
	s.cast()
	ids := make([]inventory.DeviceID, len(s.devices))
	for i, d := range s.devices {
		ids[i] = d.ID
	}
	bundle, err := s.engineer.Enrol(ctx, ids...)
	if err != nil {
		return err
	}
	tokens := map[inventory.DeviceID]enrol.Bundle{}
	for _, t := range bundle.Tokens {
		tokens[t.Device] = enrol.Bundle{
			EnrolURL: bundle.EnrolURL, Channel: bundle.Channel, CAURL: bundle.CAURL, RootPEM: bundle.RootPEM,
			Device: t.Device, Serial: t.Serial, Token: t.Token,
		}
	}
	circuits := map[inventory.SiteID][]sim.Circuit{}
	for _, c := range s.cfg.City.Circuits {
		circuits[c.Site] = append(circuits[c.Site], sim.Circuit{ID: c.ID, Kind: c.Kind, Carrier: c.Carrier})
	}
	var simulated sim.File
	var alone []sim.Edge
	for _, d := range s.devices {
		b := tokens[d.ID]
		e := sim.Edge{Device: d.ID, Serial: d.Serial, Site: d.Site, Role: d.Role, Circuits: circuits[d.Site], Bundle: &b}
		if s.real[d.Site] {
			alone = append(alone, e)
		} else {
			simulated.Edges = append(simulated.Edges, e)
		}
	}
	begin := time.Now()
	if err := s.startEdges(simulated, alone); err != nil {
		return err
	}
	killed := false
	err = s.wait(ctx, 5*time.Minute, "enrolment", func(ctx context.Context) (bool, string, error) {
		sum, err := s.engineer.Summary(ctx)
		if err != nil {
			return false, "", err
		}
		if s.chaos("enrol") && !killed && sum.Enrolled > len(s.devices)/4 && sum.Enrolled < len(s.devices) {
			killed = true
			return false, "", s.killServe(ctx)
		}
		return sum.Enrolled >= len(s.devices) && sum.Connected >= len(s.devices), fmt.Sprintf("%d of %d enrolled, %d connected", sum.Enrolled, len(s.devices), sum.Connected), nil
	})
	s.report.Seconds.Enrol = time.Since(begin).Seconds()
	if err != nil {
		return err
	}
	s.report.expect(!s.chaos("enrol") || killed, "the controller was to be killed in the middle of enrolment and was not")
	return s.nobodyTwice(ctx)
}

// nobodyTwice holds the PKI to its word: one first certificate per device.
func (s *story) nobodyTwice(ctx context.Context) error {
	certs, err := s.security.Certificates(ctx)
	if err != nil {
		return err
	}
	n := map[inventory.DeviceID]int{}
	for _, c := range certs {
		if c.Device != "" {
			n[c.Device]++
		}
	}
	for _, d := range s.devices {
		s.report.expect(n[d.ID] == 1, "%s holds %d certificates after enrolment, want 1", d.ID, n[d.ID])
	}
	s.report.Enrolled = len(n)
	return nil
}

func (s *story) startEdges(simulated sim.File, alone []sim.Edge) error {
	file := s.path("sim.json")
	if err := simulated.Save(file); err != nil {
		return err
	}
	s.control = s.path("sim.sock")
	p, err := start(s.cfg.Dir, "sim", s.cfg.Wardnet, "lab", "sim", "--edges", file, "--state", s.path("edges"), "--control", s.control, "--seed", fmt.Sprint(s.cfg.Seed))
	if err != nil {
		return err
	}
	p.watch()
	s.sims = append(s.sims, p)
	for _, e := range alone {
		state := filepath.Join(s.cfg.Dir, "edges", string(e.Device))
		one := s.path("edge-" + string(e.Device) + ".json")
		if err := (sim.File{Edges: []sim.Edge{e}}).Save(one); err != nil {
			return err
		}
		p, err := start(s.cfg.Dir, "edge-"+string(e.Device), append([]string{s.cfg.Edge}, edgeArgs(one, state, s.cfg.Seed)...)...)
		if err != nil {
			return err
		}
		p.watch()
		s.sims = append(s.sims, p)
	}
	return nil
}

// pushAll makes a revision of the inventory, has it approved by another person,
// and rolls it out in waves.
func (s *story) pushAll(ctx context.Context) error {
	rev, err := s.engineer.CreateRevision(ctx, newRevision("Cấu hình đầu tiên của toàn thành phố"))
	if err != nil {
		return err
	}
	plan, err := s.engineer.Plan(ctx, rev.Number)
	if err != nil {
		return err
	}
	s.report.expect(len(plan.Changes) >= len(s.devices), "the plan touches %d devices, want %d", len(plan.Changes), len(s.devices))
	if _, err := s.engineer.Approve(ctx, rev.Number, approval(rev.Hash)); err == nil {
		s.report.expect(false, "the author could approve the own revision")
	}
	if _, err := s.approver.Approve(ctx, rev.Number, approval(rev.Hash)); err != nil {
		return err
	}
	begin := time.Now()
	roll, err := s.engineer.StartRollout(ctx, rev.Number)
	if err != nil {
		return err
	}
	killed := false
	err = s.wait(ctx, 5*time.Minute, "rollout", func(ctx context.Context) (bool, string, error) {
		var err error
		if roll, err = s.engineer.Rollout(ctx, roll.ID); err != nil {
			return false, "", err
		}
		if s.chaos("push") && !killed && roll.Done > len(s.devices)/5 && roll.Done < len(s.devices) {
			killed = true
			return false, "", s.killServe(ctx)
		}
		if roll.Ended != nil && roll.State != "done" {
			return false, "", fmt.Errorf("the rollout ended as %s: %s", roll.State, roll.Reason)
		}
		return roll.State == "done", fmt.Sprintf("%d of %d devices, %s", roll.Done, roll.Total, roll.State), nil
	})
	s.report.Seconds.Push = time.Since(begin).Seconds()
	if err != nil {
		return err
	}
	s.report.expect(!s.chaos("push") || killed, "the controller was to be killed in the middle of the push and was not")
	wards := 0
	for _, w := range roll.Waves {
		r := WaveReport{Name: w.Name, Devices: len(w.Devices)}
		if w.Started != nil && w.Ended != nil {
			r.Seconds = w.Ended.Sub(*w.Started).Seconds()
		}
		if !slices.ContainsFunc(s.devices, func(d inventory.Device) bool { return d.Role == inventory.RoleHub && slices.Contains(w.Devices, d.ID) }) {
			wards++
		}
		s.report.Waves = append(s.report.Waves, r)
	}
	s.report.expect(wards == 4 || s.cfg.Edges > 0, "%d ward waves, want 4", wards)
	return s.converged(ctx)
}

// converged waits until every device runs its intent and all tunnels are up.
func (s *story) converged(ctx context.Context) error {
	return s.wait(ctx, 2*time.Minute, "convergence", func(ctx context.Context) (bool, string, error) {
		sum, err := s.engineer.Summary(ctx)
		if err != nil {
			return false, "", err
		}
		s.report.InSync, s.report.TunnelsUp, s.report.Tunnels = sum.InSync, sum.TunnelsUp, sum.Tunnels
		s.healthy = sum.TunnelsUp
		return sum.InSync >= len(s.devices) && sum.TunnelsUp > 0 && sum.TunnelsUp == sum.Tunnels,
			fmt.Sprintf("%d of %d in sync, %d of %d tunnels up", sum.InSync, len(s.devices), sum.TunnelsUp, sum.Tunnels), nil
	})
}
