package foreign

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/edgetest"
)

// device is one of the test devices.
type device interface {
	Box
	holds() edge.Config
	set(func(*ramBox))
}

var kinds = map[string]func(*power) device{
	"emulated":   func(p *power) device { return &ramBox{power: p} },
	"own return": func(p *power) device { return &confirmBox{ramBox: &ramBox{power: p}} },
	"turns out to have none": func(p *power) device {
		return &confirmBox{ramBox: &ramBox{power: p}, cannot: true}
	},
}

// bench is one driver on one test device.
type bench struct {
	t       *testing.T
	key     edgetest.Key
	power   *power
	box     device
	journal *ramJournal
	*Driver
}

func newBench(t *testing.T, kind string) *bench {
	p := newPower(1)
	b := &bench{t: t, key: edgetest.NewKey(t), power: p, box: kinds[kind](p), journal: &ramJournal{power: p}}
	b.start()
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

func (b *bench) start() {
	b.t.Helper()
	var err error
	b.Driver, err = New(b.t.Context(), Deps{
		Device: edgetest.Device, Keys: b.key.Public(), Box: b.box, Journal: b.journal, Log: slog.New(slog.DiscardHandler),
	}, Config{})
	must(b.t, err)
}

// restart kills the process and starts it anew, after down.
func (b *bench) restart(down time.Duration) {
	b.t.Helper()
	b.power.cutAfter(0)
	must(b.t, b.Close())
	time.Sleep(down)
	b.power.cutAfter(-1)
	b.start()
}

func (b *bench) doc(rev uint64) edge.Signed {
	return b.key.Sign(b.t, variant(int(rev)), rev)
}

// variant differs in several held parts, so that half of it can be seen.
func variant(n int) edge.Config {
	c := edgetest.Config(n)
	c.Loopback = netip.AddrFrom4([4]byte{172, 16, 0, byte(n)})
	c.BGP.ASN = 4200000000 + uint32(n)
	c.BGP.Neighbours[0].Preference = 100 + n
	c.Segments[0].Port = fmt.Sprint("eth", n)
	return c
}

func (b *bench) keep(rev uint64) {
	b.t.Helper()
	id := edge.CommitID(fmt.Sprint("keep-", rev))
	must(b.t, b.Apply(b.t.Context(), id, b.doc(rev), time.Minute))
	must(b.t, b.Confirm(b.t.Context(), id))
}

// holdsRev fails unless the device holds revision rev's parts; 0: nothing.
func (b *bench) holdsRev(rev uint64) {
	b.t.Helper()
	var want edge.Config
	if rev != 0 {
		want = held(edge.Config{}, variant(int(rev)))
	}
	if change := edge.Diff(b.box.holds(), want); !change.Empty() {
		b.t.Fatalf("the device does not hold revision %d:\n%s", rev, change)
	}
}

func (b *bench) pending(want edge.CommitID) {
	b.t.Helper()
	if got, err := b.Pending(b.t.Context()); err != nil || got != want {
		b.t.Fatalf("pending %q, %v; want %q", got, err, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func each(t *testing.T, run func(*bench)) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(newBench(t, kind)) })
		})
	}
}
