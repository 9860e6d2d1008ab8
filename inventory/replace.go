package inventory

import (
	"fmt"
	"strconv"
	"strings"
)

// Replacement is one device in the place of another: same site, circuits and
// addresses, another box and therefore another id.
type Replacement struct {
	Inventory Inventory
	Old, New  Device // Old as it is now: retired
}

// ReplaceDevice retires the device in service that has serial old and declares
// one with serial next in its place: site, platform, role and loopback stay, and
// with the loopback its AS number, its tunnels and their addresses. The new id
// is the old one with "-2", "-3" and so on, the first that is in neither inv nor
// used: ids are never reused. inv must be valid; the result is. Errors wrap
// [ErrNotFound] or [ErrInvalid], all faults at once.
//
// A hub is refused: its id is part of every tunnel's name.
func ReplaceDevice(inv Inventory, old, next string, used func(DeviceID) bool) (Replacement, error) {
	inv = inv.Normalize()
	at := -1
	for i, d := range inv.Devices {
		if d.Intended != Retired && strings.EqualFold(d.Serial, old) {
			at = i
		}
	}
	if at < 0 {
		return Replacement{}, fmt.Errorf("replace a device: %w: no device that is not retired has serial %q", ErrNotFound, old)
	}
	was := inv.Devices[at]
	if err := replaceable(inv, was, next); err != nil {
		return Replacement{}, fmt.Errorf("replace device %s: %w", was.ID, err)
	}
	now := was
	now.ID, now.Serial = successor(inv, was.ID, used), next
	was.Intended = Retired
	inv.Devices[at] = was
	inv.Devices = append(inv.Devices, now)
	for i, a := range inv.Allocations {
		if a.Owner == DeviceOwner(was.ID) {
			inv.Allocations[i].Owner = DeviceOwner(now.ID)
		}
	}
	if err := Validate(inv); err != nil {
		return Replacement{}, fmt.Errorf("replace device %s: %w", was.ID, err)
	}
	inv, err := Allocate(inv)
	if err == nil {
		err = Validate(inv)
	}
	if err != nil {
		return Replacement{}, fmt.Errorf("replace device %s: %w", was.ID, err)
	}
	return Replacement{Inventory: inv, Old: was, New: now}, nil
}

// replaceable says what stands in the way of replacing d by a box with serial
// next.
func replaceable(inv Inventory, d Device, next string) error {
	var faults faultList
	bad := func(format string, args ...any) { faults.add(Fault{Text: fmt.Sprintf(format, args...)}) }
	if d.Role == RoleHub {
		bad("device %s is a hub, and the names and addresses of %d tunnels hang on its id; declare the new hub device beside it, move the sites over by a revision, then retire it", d.ID, tunnelsOf(inv, d.ID))
	}
	if d.Intended == Planned {
		bad("device %s is only planned: correct its serial in the inventory", d.ID)
	}
	if !serialForm.MatchString(next) {
		bad("%q is not a serial number (want up to 64 letters, digits, dots, underscores and hyphens)", next)
	}
	for _, o := range inv.Devices {
		switch {
		case o.Intended == Retired || !strings.EqualFold(o.Serial, next):
		case o.ID == d.ID:
			bad("the new serial is the old one; to enrol the same box again make a new bundle for %s", d.ID)
		default:
			bad("device %s at site %s has serial %q; retire it there first", o.ID, o.Site, next)
		}
	}
	return faults.err()
}

func tunnelsOf(inv Inventory, hub DeviceID) (n int) {
	for _, a := range inv.Allocations {
		if strings.HasPrefix(a.Owner, "tunnel/") && strings.HasSuffix(a.Owner, "/"+string(hub)) {
			n++
		}
	}
	return n
}

// successor is the id of the device that follows id.
func successor(inv Inventory, id DeviceID, used func(DeviceID) bool) DeviceID {
	taken := make(map[DeviceID]bool, len(inv.Devices))
	for _, d := range inv.Devices {
		taken[d.ID] = true
	}
	for _, a := range inv.Allocations {
		if name, ok := strings.CutPrefix(a.Owner, "device/"); ok {
			taken[DeviceID(name)] = true
		}
	}
	// "e-26740-2" follows "e-26740" and is followed by "e-26740-3".
	base := string(id)
	if i := strings.LastIndexByte(base, '-'); i > 0 && taken[DeviceID(base[:i])] {
		if n, err := strconv.Atoi(base[i+1:]); err == nil && n > 1 {
			base = base[:i]
		}
	}
	for n := 2; ; n++ {
		next := DeviceID(base + "-" + strconv.Itoa(n))
		if !taken[next] && (used == nil || !used(next)) {
			return next
		}
	}
}
