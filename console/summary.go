package console

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// survey reads what the summary and the event streams are made of.
func (c *Console) survey(ctx context.Context) (sum client.Summary, devices []client.Device, rollouts []client.Rollout, incidents []client.Incident, err error) {
	inv, version, err := c.deps.Inventory.Load(ctx)
	if err != nil {
		return sum, nil, nil, nil, err
	}
	if devices, err = c.deps.Devices.Devices(ctx); err != nil {
		return sum, nil, nil, nil, err
	}
	if rollouts, err = c.deps.Rollouts.Rollouts(ctx); err != nil {
		return sum, nil, nil, nil, err
	}
	if incidents, err = c.deps.Incidents.Incidents(ctx); err != nil {
		return sum, nil, nil, nil, err
	}
	sum = summarise(devices, rollouts, incidents)
	sum.Revision = uint64(c.deps.Rollouts.InForce())
	sum.At, sum.Sites, sum.InventoryV = time.Now().UTC(), len(inv.Sites), version
	if sum.Allow, sum.Deny, err = c.deps.Decisions.CountDecisions(ctx); err != nil {
		return sum, nil, nil, nil, err
	}
	if sum.Findings, err = c.deps.Incidents.CountFindings(ctx); err != nil {
		return sum, nil, nil, nil, err
	}
	sum.Samples = c.deps.History.Samples()
	sum.RSSBytes = residentBytes()
	return sum, devices, rollouts, incidents, nil
}

// summarise counts; it is pure.
func summarise(devices []client.Device, rollouts []client.Rollout, incidents []client.Incident) client.Summary {
	s := client.Summary{Devices: len(devices)}
	for _, d := range devices {
		s.Enrolled += one(d.Enrolled)
		s.Connected += one(d.Connected)
		s.InSync += one(d.InSync)
		if d.Role != inventory.RoleHub { // a tunnel is counted at its edge's end only
			s.TunnelsUp += d.TunnelsUp
			s.Tunnels += d.TunnelsTotal
		}
	}
	for _, r := range rollouts {
		if r.Ended == nil {
			s.RolloutOpen = r.ID
			break
		}
	}
	for _, i := range incidents {
		s.Incidents += one(i.State != "resolved")
	}
	return s
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// residentBytes is the process's resident memory, 0 where the kernel does not
// say.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
