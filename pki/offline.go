package pki

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// MaxOfflineLife bounds the life of an offline token, whose bundle travels by
// post, as a file or as a QR code.
const MaxOfflineLife = 30 * 24 * time.Hour

// errUnconfirmed means that a person has to confirm the device first.
var errUnconfirmed = errors.New("the offline token is not confirmed")

// waiting is the answer to a device until a person has confirmed it.
type waiting struct{ code string }

func (w *waiting) Error() string {
	return "a person at the controller has to confirm this device; its code is " + w.code
}

// CreateOfflineToken makes an enrolment token like [PKI.CreateToken], with a
// life of at most [MaxOfflineLife]. It is stolen more easily; so what presents
// it waits until [PKI.Confirm].
func (p *PKI) CreateOfflineToken(ctx context.Context, device inventory.DeviceID, serial, by string, life time.Duration) (token string, expires time.Time, err error) {
	if life <= 0 || life > MaxOfflineLife {
		return "", time.Time{}, fmt.Errorf("create offline token for %s: %w: a life of %s is not within %d days", device, inventory.ErrInvalid, life, int(MaxOfflineLife.Hours()/24))
	}
	return p.createToken(ctx, device, serial, by, life)
}

// wait notes that a device has shown an offline token; its first showing is in
// the audit log.
func (p *PKI) wait(ctx context.Context, remote string, t Token, seen presentation) error {
	code := enrol.Code(seen.csrHash)
	fresh, err := p.deps.Store.Show(ctx, Pending{
		Hash: t.Hash, CSRHash: seen.csrHash, Device: t.Device, Serial: t.Serial, Remote: remote, First: seen.at.UTC(), Last: seen.at.UTC(),
	})
	switch {
	case errors.Is(err, inventory.ErrConflict):
		return p.refuse(ctx, &Refusal{Listener: EnrolListener, Reason: RateLimited, Remote: remote, Device: t.Device, Err: errors.New("too many devices have shown this token; it has been copied, ask for a new one")})
	case err != nil:
		return fmt.Errorf("enrol %s: %w", t.Device, err)
	case fresh:
		p.toldNo(ctx, t.Device, remote, enrol.AwaitingConfirmation, &waiting{code})
		e := Event{Actor: "device " + string(t.Device), Remote: remote, Action: "pending", Object: string(t.Device), Outcome: "done", Reason: "shows an offline token of " + t.By + ", code " + code}
		if err := p.audit(ctx, e); err != nil {
			return fmt.Errorf("enrol %s: %w", t.Device, err)
		}
	}
	return &waiting{code}
}

// Pending lists the devices that wait for [PKI.Confirm].
func (p *PKI) Pending(ctx context.Context) ([]Pending, error) {
	return p.deps.Store.Pending(ctx)
}

// Confirm lets a waiting device have its certificate: a person has compared the
// code that the box shows with the one in [PKI.Pending]. Of several that wait
// with one token only that box gets in. [inventory.ErrNotFound]: none waits
// with that code. It is in the audit log before it is in force.
func (p *PKI) Confirm(ctx context.Context, device inventory.DeviceID, code, by string) error {
	list, err := p.Pending(ctx)
	if err != nil {
		return fmt.Errorf("confirm %s: %w", device, err)
	}
	for _, w := range list {
		if w.Device != device || enrol.Code(w.CSRHash) != strings.ToLower(strings.TrimSpace(code)) {
			continue
		}
		if err := p.audit(ctx, Event{Actor: by, Action: "confirm", Object: string(device), Outcome: "done", Reason: "code " + enrol.Code(w.CSRHash) + ", seen from " + w.Remote}); err != nil {
			return fmt.Errorf("confirm %s: %w", device, err)
		}
		_, err := p.deps.Store.Confirm(ctx, Confirmation{Hash: w.Hash, CSRHash: w.CSRHash, By: by, At: time.Now().UTC()})
		return err
	}
	return fmt.Errorf("confirm %s: %w: no device of that name waits with the code %q; see 'wardnet cert token pending'", device, inventory.ErrNotFound, code)
}
