package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// EpochLife is how long a hub takes a credential epoch for the newest there is
// (design §4). The controller says it again at least twice within it.
const EpochLife = 24 * time.Hour

// StaleEpoch is the alarm of a hub whose credential epoch is older than
// [EpochLife]: a ward revoked since then would still be let in.
const StaleEpoch = "credentials-stale"

// alarmPause is the time between two looks at what raises alarms.
const alarmPause = time.Minute

// stale says whether an epoch made at is too old to admit anybody new by.
func stale(at, now time.Time) bool { return now.Sub(at) >= EpochLife }

// alarms are those of a device of that role, sorted; none: nil.
func alarms(role inventory.DeviceRole, c edge.Credentials, now time.Time) []string {
	if role == inventory.RoleHub && c.Epoch > 0 && stale(c.At, now) {
		return []string{StaleEpoch}
	}
	return nil
}

// admissible is what a hub that holds have takes of the set next: all of a fresh one;
// of a stale one no peer and no key that it does not hold already. Who is
// missing in next goes in any case. Late are the peers left out, sorted.
func admissible(role inventory.DeviceRole, have, next edge.Credentials, now time.Time) (take edge.Credentials, late []inventory.DeviceID) {
	if role != inventory.RoleHub || !stale(next.At, now) {
		return next, nil
	}
	take = edge.Credentials{Epoch: next.Epoch, At: next.At, Keys: map[inventory.DeviceID]string{}}
	for id, key := range next.Keys {
		if have.Keys[id] == key {
			take.Keys[id] = key
		} else {
			late = append(late, id)
		}
	}
	slices.Sort(late)
	return take, late
}

// Alarms are what somebody should look at, sorted.
func (a *Agent) Alarms() []string {
	s := a.look().state
	return alarms(s.Active().Config.Role, s.Credentials, time.Now())
}

// alarm says aloud when the alarms change, and wakes who listens.
func (a *Agent) alarm(ctx context.Context, said []string) []string {
	now := a.Alarms()
	if slices.Equal(now, said) {
		return said
	}
	if len(now) > 0 {
		c := a.look().state.Credentials
		a.deps.Log.ErrorContext(ctx, "the credential epoch is old: peers in it stay, no other is admitted until the controller sends a new one", "alarm", StaleEpoch, "epoch", c.Epoch, "at", c.At)
	} else {
		a.deps.Log.InfoContext(ctx, "the credential epoch is fresh again", "alarm", StaleEpoch)
	}
	a.wake()
	return now
}

// errLate tells the sender of a stale set whom it did not bring in.
func errLate(c edge.Credentials, late []inventory.DeviceID) error {
	if len(late) == 0 {
		return nil
	}
	return fmt.Errorf("%w: credentials: epoch %d was made at %s, over %s ago: %d peers of it are not admitted, %s the first; send a new epoch, and compare the clocks",
		inventory.ErrInvalid, c.Epoch, c.At.UTC().Format(time.RFC3339), EpochLife, len(late), late[0])
}
