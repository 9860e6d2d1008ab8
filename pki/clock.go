package pki

import (
	"fmt"
	"net/http"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// clockFault is why a device with that clock is not enrolled, or nil: beyond
// [enrol.MaxSkew] its certificate would seem not yet valid or over to it. The
// zero time is an agent that does not tell.
func clockFault(device, now time.Time) error {
	if device.IsZero() {
		return nil
	}
	if skew := device.Sub(now); skew.Abs() > enrol.MaxSkew {
		return fmt.Errorf("the device's clock says %s and the controller's %s; set the device's clock and try again, the token is not spent",
			device.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// clockNote is what the audit log says of a clock that is off but good enough.
func (p *PKI) clockNote(device time.Time) string {
	if device.IsZero() {
		return ""
	}
	skew := time.Until(device).Round(time.Second)
	if skew.Abs() <= enrol.WarnSkew {
		return ""
	}
	p.metrics.clockWarnings.Inc()
	return fmt.Sprintf("its clock is off by %s", skew)
}

// timeFor serves [enrol.TimePath] at a listener.
func (p *PKI) timeFor(l Listener) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t, err := p.serveTime(l, r)
		p.reply(w, r, t, err)
	}
}

// serveTime tells the time to a device whose clock keeps it from any other
// request. Who it is nobody has proven; the refusal is in the audit log, so
// that a site whose boxes have lost their clock is seen.
func (p *PKI) serveTime(l Listener, r *http.Request) (enrol.TimeAnswer, error) {
	ctx, from := r.Context(), addressKey(r.RemoteAddr)
	no := func(reason Reason, device inventory.DeviceID, err error) error {
		return p.refuse(ctx, &Refusal{Listener: l, Reason: reason, Remote: r.RemoteAddr, Device: device, Err: err})
	}
	if !p.failures.ready(from) || !p.enrolRate.Allow() {
		return enrol.TimeAnswer{}, no(RateLimited, "", fmt.Errorf("too many requests; wait a minute"))
	}
	q, err := enrol.DecodeTimeRequest(r.Body)
	if err != nil {
		p.failures.take(from)
		return enrol.TimeAnswer{}, no(Malformed, "", err)
	}
	now := time.Now().UTC()
	if err := clockFault(q.Time, now); err != nil {
		p.failures.take(from)
		no(Clock, q.Device, err) //nolint:errcheck // it is answered with the time
	}
	key := p.keys[CheckpointKey]
	sig, err := key.Sign(enrol.TimePayload(q.Nonce, now))
	if err != nil {
		return enrol.TimeAnswer{}, err
	}
	return enrol.TimeAnswer{Time: now, TimeKey: key.ID, Key: p.pinned[string(CheckpointKey)][0], TimeSignature: sig}, nil
}
