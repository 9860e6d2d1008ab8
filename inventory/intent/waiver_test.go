package intent_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

func TestWaiver(t *testing.T) {
	key := newKey(t)
	r := signed(t, key)
	good := intent.Waiver{
		Revision: 2, Hash: r.Hash, By: "minh", Reason: "camera di dời, đóng lại sau lễ", Finding: "segment iot must not open TCP port 1 to segment staff",
		At: now, Until: now.Add(48 * time.Hour),
	}
	w, err := intent.SignWaiver(good, key, "rev-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Valid(r, now), intent.VerifyWaiver(w, &key.PublicKey)); err != nil {
		t.Error(err)
	}
	for name, alter := range map[string]func(*intent.Waiver){
		"another reason":   func(w *intent.Waiver) { w.Reason = "because" },
		"another person":   func(w *intent.Waiver) { w.By = "an" },
		"another finding":  func(w *intent.Waiver) { w.Finding = "nothing" },
		"a longer life":    func(w *intent.Waiver) { w.Until = w.Until.Add(time.Second) },
		"another revision": func(w *intent.Waiver) { w.Revision++ },
	} {
		x := w
		alter(&x)
		if err := intent.VerifyWaiver(x, &key.PublicKey); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s after it was signed: %v", name, err)
		}
	}
	if err := w.Valid(r, w.Until); err == nil || !strings.Contains(err.Error(), "ended at") {
		t.Errorf("at its end: %v", err)
	}
	other := r
	other.Hash = strings.Repeat("0", 64)
	if err := w.Valid(other, now); err == nil || !strings.Contains(err.Error(), "names revision 2") {
		t.Errorf("for other content: %v", err)
	}
}

// A waiver without all that it needs is refused, and all that is missing is named.
func TestSignWaiverRefusesTheIncomplete(t *testing.T) {
	_, err := intent.SignWaiver(intent.Waiver{Revision: 2, Hash: "x", By: " ", At: now, Until: now.Add(intent.MaxWaiver + time.Second)}, newKey(t), "k")
	if !errors.Is(err, inventory.ErrInvalid) {
		t.Fatal(err)
	}
	for _, want := range []string{"the name of the person", "a reason", "what the proof found", "within 90 days"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}
