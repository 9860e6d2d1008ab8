package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/wardnet/wardnet/pki/enrol"
)

// Pauses around a renewal out of turn. A whole city is refused at the same
// moment when an issuer is distrusted; and a device that is refused for another
// reason must not ask for ever.
const (
	rekeySpread  = 10 * time.Second
	rekeyTimeout = time.Minute
	rekeyMin     = 30 * time.Second
	rekeyMax     = 30 * time.Minute
)

// rekey fetches a new certificate when the controller does not take the one in
// use on the management channel: its issuer may be distrusted, and then a new
// one is had at once. Being refused there too changes nothing here.
func rekey(ctx context.Context, c enrol.Client, id *enrol.Identity, refused <-chan struct{}) {
	pause := rekeyMin
	for {
		select {
		case <-ctx.Done():
			return
		case <-refused:
		}
		if !sleep(ctx, rand.N(rekeySpread)) {
			return
		}
		before := id.Certificate()
		try, cancel := context.WithTimeout(ctx, rekeyTimeout)
		err := c.Renew(try, id)
		cancel()
		if err == nil {
			pause = rekeyMin
			select {
			case <-refused: // of the old one, meanwhile
			default:
			}
			c.Log.InfoContext(ctx, "new certificate in place of one that was refused", "device", id.Device(), "not_after", id.Certificate().NotAfter)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		c.Log.WarnContext(ctx, "no new certificate in place of the one that was refused", "device", id.Device(), "pause", pause, "err", err)
		if id.Certificate().Equal(before) && !sleep(ctx, pause/2+rand.N(pause/2)) {
			return
		}
		pause = min(2*pause, rekeyMax)
	}
}

// sleep is false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
