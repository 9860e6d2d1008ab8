package netlab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// Replaced is one box that was put in the place of another, by their serials.
type Replaced struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// swap does again to an inventory what was done to the controller's.
func swap(inv inventory.Inventory, all []Replaced) (inventory.Inventory, error) {
	for _, r := range all {
		x, err := inventory.ReplaceDevice(inv, r.Old, r.New, func(inventory.DeviceID) bool { return false })
		if err != nil {
			return inv, err
		}
		inv = x.Inventory
	}
	return inv, nil
}

// Replace puts a new box with its own serial in the place of a ward's, whose
// power is cut: replacement, bundle, first boot, rollout. It returns the site as
// it is then, when all is well again.
func (l *Lab) Replace(ctx context.Context, s Site, reason string) (Site, error) {
	old, ok := l.City.Index().Device(s.Device)
	if !ok {
		return s, fmt.Errorf("%w: the lab's inventory has no device %s", inventory.ErrNotFound, s.Device)
	}
	serial := fmt.Sprintf("%s-%d", old.Serial, len(l.state.Shape.Replaced)+2)
	engineer, err := l.Client(Engineer)
	if err != nil {
		return s, err
	}
	defer engineer.Close()
	if err := l.PowerOff(s); err != nil {
		return s, err
	}
	done, err := engineer.Replace(ctx, client.NewReplacement{OldSerial: old.Serial, NewSerial: serial, Reason: reason})
	if err != nil {
		return s, fmt.Errorf("replace %s: %w", s.Device, err)
	}
	next := l.state
	next.Shape.Replaced = append(slices.Clone(next.Shape.Replaced), Replaced{old.Serial, serial})
	city, top, err := City(l.sample, next.Shape)
	if err != nil {
		return s, err
	}
	l.City, l.Topology, l.state = city, top, next
	if err := l.save(); err != nil {
		return s, err
	}
	now, ok := top.Site(s.ID)
	if !ok || now.Device != done.Device {
		return s, fmt.Errorf("%w: the controller calls the new box %s, the lab %s", inventory.ErrConflict, done.Device, now.Device)
	}
	if err := l.keepBundle(now, done.Enrolment, done.Enrolment.Tokens[0]); err != nil {
		return now, fmt.Errorf("enrolment bundle of %s: %w", now.Device, err)
	}
	if err := l.Rebuild(ctx, now); err != nil {
		return now, err
	}
	if err := l.StartEdge(now); err != nil {
		return now, err
	}
	if err := l.enrolled(ctx, engineer, []Site{now}); err != nil {
		return now, err
	}
	if err := l.rollOut(ctx, engineer, done.Revision); err != nil {
		return now, err
	}
	if err := l.Healthy(ctx, time.Minute); err != nil {
		return now, err
	}
	return now, l.askAddresses(ctx, []Site{now})
}
