package foreign

import (
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/edgetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The controller's contract, over every kind of test device.
func TestContract(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			for _, c := range edgetest.Cases() {
				t.Run(c.Name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c.Run(t, func(t *testing.T, keys map[string]crypto.PublicKey) controller.Driver {
							p := newPower(1)
							d, err := New(t.Context(), Deps{Device: edgetest.Device, Keys: keys, Box: kinds[kind](p), Journal: &ramJournal{power: p}, Log: slog.New(slog.DiscardHandler)}, Config{})
							must(t, err)
							t.Cleanup(func() { must(t, d.Close()) })
							return d
						})
					})
				})
			}
		})
	}
}

// What the device falls short of is said, and nothing else.
func TestLimits(t *testing.T) {
	each(t, func(b *bench) {
		c := edgetest.Config(5)
		said := strings.Join(b.Limits(c), "\n")
		if strings.Contains(said, "unconfirmed") != b.Emulated() || strings.Contains(said, "does not hold") != (len(b.Unheld(c)) > 0) {
			b.t.Errorf("emulated %t, not held %v; said %q", b.Emulated(), b.Unheld(c), said)
		}
	})
}

func TestAdoptedAfterRestart(t *testing.T) {
	each(t, func(b *bench) {
		b.keep(5)
		must(b.t, b.Apply(b.t.Context(), "c-6", b.doc(6), time.Minute))
		b.restart(30 * time.Second)
		synctest.Wait()
		b.pending("c-6")
		b.holdsRev(6)
		must(b.t, b.Confirm(b.t.Context(), "c-6"))
		time.Sleep(time.Hour)
		b.holdsRev(6)
		b.pending("")
	})
}

func TestAdoptedAndNotConfirmed(t *testing.T) {
	each(t, func(b *bench) {
		b.keep(5)
		must(b.t, b.Apply(b.t.Context(), "c-6", b.doc(6), time.Minute))
		b.restart(30 * time.Second)
		time.Sleep(29 * time.Second)
		b.holdsRev(6)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		b.holdsRev(5)
		b.pending("")
		if st, err := b.State(b.t.Context()); err != nil || st.LastRevert == nil || st.LastRevert.Commit != "c-6" {
			b.t.Fatalf("state %+v, %v", st, err)
		}
		if err := b.Confirm(b.t.Context(), "c-6"); !errors.Is(err, edge.ErrRejected) {
			b.t.Fatalf("confirm after the return: %v", err)
		}
	})
}

// What the journal knows and the device does not hold whole is not adopted: it
// is put back as soon as the device is seen, and cannot be confirmed before.
func TestNotAdopted(t *testing.T) {
	for _, confirm := range []bool{false, true} {
		each(t, func(b *bench) {
			b.keep(5)
			half := 0
			for seed := range uint64(9) {
				b.power.rand = newPower(seed).rand
				b.power.cutAfter(2) // the journal, then the device
				if err := b.Apply(b.t.Context(), "c-6", b.doc(6), time.Minute); err == nil {
					b.t.Fatal("no cut")
				}
				whole := edge.Diff(b.box.holds(), held(edge.Config{}, variant(6))).Empty()
				b.box.set(func(r *ramBox) { r.away = confirm })
				b.restart(time.Second)
				time.Sleep(time.Second)
				b.box.set(func(r *ramBox) { r.away = false })
				if confirm {
					if err := b.Confirm(b.t.Context(), "c-6"); (err == nil) != whole || err != nil && !errors.Is(err, edge.ErrRejected) {
						b.t.Fatalf("confirm, written %v: %v", whole, err)
					}
					if whole {
						return
					}
				}
				if whole {
					time.Sleep(time.Minute)
					continue
				}
				half++
				synctest.Wait()
				b.pending("")
				b.holdsRev(5)
			}
			if half == 0 {
				b.t.Fatal("every write was whole; the test shows nothing")
			}
		})
	}
}

func TestDeadlinePassedWhileDown(t *testing.T) {
	each(t, func(b *bench) {
		b.keep(5)
		must(b.t, b.Apply(b.t.Context(), "c-6", b.doc(6), time.Minute))
		b.box.set(func(r *ramBox) { r.away = true })
		b.restart(2 * time.Minute)
		time.Sleep(10 * time.Minute) // and it cannot be reached for longer
		b.pending("c-6")
		if err := b.Confirm(b.t.Context(), "c-6"); !errors.Is(err, edge.ErrRejected) {
			b.t.Fatalf("confirm past the deadline: %v", err)
		}
		if err := b.Apply(b.t.Context(), "c-7", b.doc(7), time.Minute); !errors.Is(err, edge.ErrUnreachable) || errors.Is(err, edge.ErrRejected) {
			b.t.Fatalf("apply while it is to be put back: %v", err)
		}
		b.box.set(func(r *ramBox) { r.away = false })
		time.Sleep(31 * time.Second)
		b.holdsRev(5)
		b.pending("")
	})
}

// A device that drops the session in the middle is put back at once, or as soon
// as it can be reached.
func TestHalfWritten(t *testing.T) {
	for _, kind := range []string{"emulated", "turns out to have none"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, kind)
				b.keep(5)
				b.box.set(func(r *ramBox) { r.half = 1 })
				err := b.Apply(t.Context(), "c-6", b.doc(6), time.Minute)
				if !errors.Is(err, edge.ErrUnreachable) || errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), "put back") {
					t.Fatalf("apply: %v", err)
				}
				b.holdsRev(5)
				b.pending("")

				b.box.set(func(r *ramBox) { r.half = 99 }) // putting back fails, too
				if err := b.Apply(t.Context(), "c-7", b.doc(7), time.Minute); !errors.Is(err, edge.ErrUnreachable) {
					t.Fatalf("apply: %v", err)
				}
				time.Sleep(time.Minute)
				b.pending("c-7")
				b.box.set(func(r *ramBox) { r.half = 0 })
				time.Sleep(31 * time.Second)
				b.holdsRev(5)
				b.pending("")
				b.keep(8)
			})
		})
	}
}

// Drift is told, and a change that returns leaves it as it was found.
func TestDrift(t *testing.T) {
	each(t, func(b *bench) {
		b.keep(5)
		b.box.set(func(r *ramBox) { r.has.BGP.ASN = 65000 })
		got, err := b.Running(b.t.Context())
		must(b.t, err)
		if got.Hash == b.doc(5).Hash || got.Hash != got.Config.Hash() || got.Config.BGP.ASN != 65000 || got.Revision != 5 || got.Device != edgetest.Device {
			b.t.Fatalf("running %+v", got)
		}
		must(b.t, b.Apply(b.t.Context(), "c-6", b.doc(6), time.Minute))
		b.holdsRev(6)
		b.restart(time.Second) // what was there is in the journal
		time.Sleep(time.Minute)
		synctest.Wait()
		if asn := b.box.holds().BGP.ASN; asn != 65000 {
			b.t.Fatalf("returned to ASN %d, found was 65000", asn)
		}
	})
}

func TestErrors(t *testing.T) {
	each(t, func(b *bench) {
		b.keep(5)
		for what, tt := range map[string]struct {
			fault func(*ramBox)
			kind  error // of Apply's error; nil: neither
			hint  string
		}{
			"away":    {func(r *ramBox) { r.away = true }, edge.ErrUnreachable, "no route"},
			"garbage": {func(r *ramBox) { r.garb = true }, nil, "cannot be read"},
			"other":   {func(r *ramBox) { r.other = true }, ErrOtherDevice, "replace the device"},
			"no":      {func(r *ramBox) { r.no = errors.New("interface eth9 does not exist") }, edge.ErrRejected, "eth9"},
			"busy":    {func(r *ramBox) { r.no = fmt.Errorf("%w: session 7", ErrBusy) }, ErrBusy, "session 7"},
		} {
			b.box.set(tt.fault)
			err := b.Apply(b.t.Context(), "c-6", b.doc(6), time.Minute)
			if tt.kind != nil && !errors.Is(err, tt.kind) || err == nil || !strings.Contains(err.Error(), tt.hint) ||
				tt.kind == nil && (errors.Is(err, edge.ErrRejected) || errors.Is(err, edge.ErrUnreachable)) {
				b.t.Errorf("%s: apply: %v", what, err)
			}
			if _, err := b.Running(b.t.Context()); (err == nil) != (what == "no" || what == "busy") {
				b.t.Errorf("%s: running: %v", what, err)
			}
			b.box.set(func(r *ramBox) { r.faults = faults{} })
			b.holdsRev(5)
			b.pending("")
			if st, err := b.State(b.t.Context()); err != nil || st.LastRevert != nil {
				b.t.Errorf("%s: state %+v, %v; nothing was in force", what, st, err)
			}
		}
		if !errors.Is(ErrOtherDevice, edge.ErrRejected) {
			b.t.Error("another device is no rejection")
		}
	})
}
