package telemetry

import (
	"math"
	"time"

	gpb "github.com/openconfig/gnmi/proto/gnmi"
)

// take turns one notification into samples.
func (t *target) take(n *gpb.Notification, stream uint64, now time.Time) {
	device := time.Unix(0, n.GetTimestamp()).UTC()
	at := t.clamp(device, now)
	t.last.Store(now.UnixNano())
	if lag := now.Sub(device); lag < t.c.cfg.Past {
		t.lag.Store(int64(lag)) // older: a state that began long ago, not a slow device
	}
	prefix := n.GetPrefix()
	for _, u := range n.GetUpdate() {
		p := t.intern(prefix, u.GetPath())
		if p == nil || p.out == nil {
			continue
		}
		v, ok := number(u.GetVal(), p.leaf.up)
		if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
			t.c.m.ignored.WithLabelValues("value").Inc()
			continue
		}
		s := Sample{Device: t.id, Metric: p.leaf.metric, Object: p.leaf.object, Value: v, At: at}
		if p.kind == State && p.seen != 0 && v == p.last {
			s.At = now // a heartbeat: the state holds now, whenever it began
		}
		if p.kind == State {
			if !s.At.After(p.lastAt) { // heartbeats carry our time, the device's may run behind
				s.At = p.lastAt.Add(time.Millisecond)
			}
			p.lastAt = s.At
		}
		p.last, p.seen = v, stream
		p.out.set(v, now)
		t.c.m.updates.Inc()
		t.c.emit(s)
	}
	for _, d := range n.GetDelete() {
		t.deleted(prefix, d, now)
	}
}

// clamp moves a device's time into the accepted window and counts it: a sample
// far in the future would make the history refuse every other series.
func (t *target) clamp(at, now time.Time) time.Time {
	switch oldest, newest := now.Add(-t.c.cfg.Past), now.Add(t.c.cfg.Future); {
	case at.Before(oldest):
		t.clamped.Add(1)
		t.c.m.clamped.WithLabelValues("past").Inc()
		return oldest
	case at.After(newest):
		t.clamped.Add(1)
		t.c.m.clamped.WithLabelValues("future").Inc()
		return newest
	}
	return at
}

func originOf(prefix, path *gpb.Path) string {
	if o := path.GetOrigin(); o != "" {
		return o
	}
	return prefix.GetOrigin()
}

// intern finds the path's meaning without building a string; nil when the
// device has too many series.
func (t *target) intern(prefix, path *gpb.Path) *interned {
	origin := originOf(prefix, path)
	h := hashPath(origin, prefix.GetElem(), path.GetElem())
	p := t.paths[h]
	if p != nil && p.origin == origin && samePath(p.elems, prefix.GetElem(), path.GetElem()) {
		if p.out == nil {
			t.c.m.ignored.WithLabelValues("path").Inc()
		}
		return p
	}
	if p == nil && len(t.paths) >= t.c.cfg.SeriesPer {
		t.c.m.ignored.WithLabelValues("full").Inc()
		return nil
	}
	p = &interned{origin: origin}
	p.elems = append(append(p.elems, prefix.GetElem()...), path.GetElem()...)
	if l, ok := resolve(origin, p.elems); ok {
		m, _ := Lookup(l.metric)
		p.leaf, p.kind = l, m.Kind
		p.out = t.c.expo.add(l.metric, t.id, l.object)
		t.nseries.Add(1)
	} else {
		t.c.m.ignored.WithLabelValues("path").Inc()
	}
	t.paths[h] = p
	return p
}

// deleted ends every series at or below a path.
func (t *target) deleted(prefix, path *gpb.Path, now time.Time) {
	origin := originOf(prefix, path)
	n := len(prefix.GetElem()) + len(path.GetElem())
	for h, p := range t.paths {
		if p.origin == origin && len(p.elems) >= n && samePath(p.elems[:n], prefix.GetElem(), path.GetElem()) {
			t.gone(h, p, now)
		}
	}
}

// ended runs when a new stream has sent all it has: a state that it did not
// mention belongs to an object that is no more.
func (t *target) ended(stream uint64, now time.Time) {
	for h, p := range t.paths {
		if p.kind == State && p.seen != stream {
			t.gone(h, p, now)
		}
	}
}

func (t *target) gone(h uint64, p *interned, now time.Time) {
	delete(t.paths, h)
	if p.out == nil {
		return
	}
	p.out.gone.Store(true)
	t.nseries.Add(-1)
	t.c.emit(Sample{Device: t.id, Metric: p.leaf.metric, Object: p.leaf.object, Value: math.NaN(), At: now})
}
