package telemetry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	gpb "github.com/openconfig/gnmi/proto/gnmi"

	"github.com/wardnet/wardnet/inventory"
)

var errStalled = errors.New("telemetry stream fell silent")

// interned is one path of one device, resolved once.
type interned struct {
	origin string
	elems  []*gpb.PathElem
	leaf   leaf
	kind   Kind
	out    *series // nil: the path carries no metric of ours
	last   float64
	lastAt time.Time // of a state's last sample
	seen   uint64    // number of the stream that sent it last
}

// target is one device's stream and what is known of it. The path table
// belongs to its goroutine.
type target struct {
	c     *Collector
	id    inventory.DeviceID
	wake  chan struct{}
	paths map[uint64]*interned

	up       atomic.Bool
	last     atomic.Int64 // receive time of the last update, Unix ns; 0: none
	lag      atomic.Int64 // ns
	nseries  atomic.Int64
	clamped  atomic.Uint64
	restarts atomic.Uint64

	upSeries, staleSeries, lagSeries *series

	mu      sync.Mutex
	cancel  context.CancelCauseFunc // of the stream; nil: none
	stopAll context.CancelFunc      // of the goroutine; nil: not started
}

func newTarget(c *Collector, id inventory.DeviceID) *target {
	t := &target{c: c, id: id, wake: make(chan struct{}, 1), paths: map[uint64]*interned{}}
	t.upSeries = c.expo.add(DeviceUp, id, "")
	t.staleSeries = c.expo.add(DeviceStaleness, id, "")
	t.lagSeries = c.expo.add(DeviceLag, id, "")
	return t
}

func (t *target) setStop(f context.CancelFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopAll = f
}

// poke wakes the target out of its back-off.
func (t *target) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// drop ends the stream; the goroutine dials again.
func (t *target) drop() { t.end(context.Canceled) }

func (t *target) end(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cancel != nil {
		t.cancel(cause)
	}
}

func (t *target) stop() {
	t.mu.Lock()
	stop := t.stopAll
	t.mu.Unlock()
	if stop != nil {
		stop()
	}
	now := time.Now().UTC()
	for _, s := range []*series{t.upSeries, t.staleSeries, t.lagSeries} {
		s.gone.Store(true)
	}
	t.c.emit(Sample{Device: t.id, Metric: DeviceUp, Value: math.NaN(), At: now})
}

// run keeps one stream until ctx ends.
func (t *target) run(ctx context.Context) {
	defer func() { // a device that was forgotten leaves the exposition
		for _, p := range t.paths {
			if p.out != nil {
				p.out.gone.Store(true)
			}
		}
	}()
	fails := 0
	for ctx.Err() == nil {
		sctx, cancel := context.WithCancelCause(ctx)
		t.mu.Lock()
		t.cancel = cancel
		t.mu.Unlock()
		began := time.Now()
		why, err := t.stream(sctx)
		cause := context.Cause(sctx)
		cancel(nil)
		if ctx.Err() != nil {
			return // the collector stops; the device is not down
		}
		if errors.Is(cause, errStalled) {
			why = "stalled"
		}
		t.c.m.streamEnds.WithLabelValues(why).Inc()
		if t.up.Swap(false) {
			t.c.deps.Log.InfoContext(ctx, "telemetry lost", "device", t.id, "err", err)
			t.emitUp(0, time.Now().UTC())
		}
		if time.Since(began) > 30*time.Second {
			fails = 0
		}
		fails++
		wait := time.NewTimer(backoff(fails))
		select {
		case <-ctx.Done():
		case <-t.wake:
			fails = 0
		case <-wait.C:
		}
		wait.Stop()
	}
}

// backoff is full jitter over 0.5 s doubling to 15 s.
func backoff(fails int) time.Duration {
	d := min(500*time.Millisecond<<min(fails-1, 10), 15*time.Second)
	return d/4 + rand.N(d*3/4)
}

// stream subscribes and takes updates until the stream ends.
func (t *target) stream(ctx context.Context) (why string, err error) {
	conn, err := t.c.deps.Dial(ctx, t.id)
	if err != nil {
		return "dial", fmt.Errorf("dial %s for telemetry: %w", t.id, err)
	}
	sub, err := gpb.NewGNMIClient(conn).Subscribe(ctx)
	if err != nil {
		return "stream", fmt.Errorf("subscribe to %s: %w", t.id, err)
	}
	req := &gpb.SubscribeRequest{Request: &gpb.SubscribeRequest_Subscribe{Subscribe: subscriptions(t.c.cfg)}}
	if err := sub.Send(req); err != nil {
		return "stream", fmt.Errorf("subscribe to %s: %w", t.id, err)
	}
	number := t.restarts.Add(1)
	for {
		resp, err := sub.Recv()
		if err != nil {
			if ctx.Err() != nil {
				return "closed", context.Cause(ctx)
			}
			return "stream", fmt.Errorf("telemetry stream of %s: %w", t.id, err)
		}
		now := time.Now().UTC()
		if !t.up.Swap(true) {
			t.c.deps.Log.InfoContext(ctx, "telemetry up", "device", t.id)
			t.emitUp(1, now)
		}
		switch r := resp.GetResponse().(type) {
		case *gpb.SubscribeResponse_Update:
			t.take(r.Update, number, now)
		case *gpb.SubscribeResponse_SyncResponse:
			t.ended(number, now)
		}
	}
}

func (t *target) emitUp(v float64, now time.Time) {
	t.upSeries.set(v, now)
	t.c.emit(Sample{Device: t.id, Metric: DeviceUp, Value: v, At: now})
}

// beat repeats the series about the device itself.
func (t *target) beat(now time.Time) {
	now = now.UTC()
	v := 0.0
	if t.up.Load() {
		v = 1
	}
	t.emitUp(v, now)
	last := t.last.Load()
	if last == 0 {
		return
	}
	age := now.Sub(time.Unix(0, last))
	t.staleSeries.set(age.Seconds(), now)
	t.c.emit(Sample{Device: t.id, Metric: DeviceStaleness, Value: age.Seconds(), At: now})
	lag := time.Duration(t.lag.Load()).Seconds()
	t.lagSeries.set(lag, now)
	t.c.emit(Sample{Device: t.id, Metric: DeviceLag, Value: lag, At: now})
	if v == 1 && age > t.c.cfg.Stall {
		t.end(errStalled)
	}
}

func (t *target) status() TargetStatus {
	s := TargetStatus{
		Device: t.id, Up: t.up.Load(), Lag: time.Duration(t.lag.Load()), Series: int(t.nseries.Load()),
		Clamped: t.clamped.Load(), Restarts: t.restarts.Load(),
	}
	if l := t.last.Load(); l != 0 {
		s.Last = time.Unix(0, l).UTC()
	}
	return s
}
