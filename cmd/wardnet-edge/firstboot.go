package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge/host/linux"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// How long a first boot waits for a step before it says that it stopped there.
const (
	linkPatience  = 5 * time.Second
	leasePatience = 15 * time.Second
)

// watchPorts writes the first steps of a first boot into the journal, those
// before the enrolment's own, until the device has found a way out or ctx, which
// ends with the enrolment, does; what came meanwhile is still told.
func (b box) watchPorts(ctx context.Context, journal *enrol.Journal) {
	start := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for passed, last := 0, false; passed < 3; {
		last = ctx.Err() != nil
		r, err := linux.Reached(b.ports.Circuits)
		if err != nil && !last {
			b.log.DebugContext(ctx, "WAN ports cannot be looked at", "err", err)
		}
		steps := []struct {
			name     enrol.StepName
			has      []string
			patience time.Duration
			cause    enrol.Cause
			missing  string
		}{
			{enrol.StepPorts, r.Links, linkPatience, enrol.CauseNoLink, "no WAN port has a link"},
			{enrol.StepAddress, r.Addresses, leasePatience, enrol.CauseNoAddress, "no WAN port has an address"},
			{enrol.StepRoute, r.Routes, leasePatience, enrol.CauseNoRoute, "no WAN port has a default route"},
		}
		for ; passed < len(steps) && len(steps[passed].has) > 0; passed++ {
			s := steps[passed]
			journal.Observe(enrol.Step{Name: s.name, State: enrol.StepPassed, Detail: strings.Join(s.has, ", "), By: enrol.ByDevice, At: time.Now().UTC(), Count: 1})
			start = time.Now()
		}
		if !last && passed < len(steps) && time.Since(start) > steps[passed].patience {
			s := steps[passed]
			journal.Observe(enrol.Step{Name: s.name, State: enrol.StepFailed, Cause: s.cause, Detail: s.missing, By: enrol.ByDevice, At: time.Now().UTC(), Count: 1})
			start = time.Now()
		}
		if last {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// rootOf reads the root certificate a device was given beforehand; "" for none.
func rootOf(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: --root: %w", inventory.ErrInvalid, err)
	}
	if _, err := enrol.TrustDomain(text); err != nil {
		return "", errors.Join(fmt.Errorf("--root %s", path), err)
	}
	return string(text), nil
}
