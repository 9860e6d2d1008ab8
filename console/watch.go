package console

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/wardnet/wardnet/console/client"
)

// watch remembers what the event streams were told last. It looks at the whole
// state again each time (level-based): no noun has to announce its changes, and
// none can be forgotten.
type watch struct {
	mu       sync.Mutex
	summary  []byte
	objects  map[string]map[string]string // event type → id → JSON
	decision string                       // newest id told
	lastErr  string
}

// decisionsPerLook bounds what one look tells; the page shows the newest only.
const decisionsPerLook = 50

// look compares the present with what was told and publishes the difference.
func (c *Console) look(ctx context.Context) {
	w := &c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.hub.busy() {
		w.objects, w.summary, w.decision = nil, nil, "" // the next client loads everything anyway
		return
	}
	err := c.lookLocked(ctx)
	switch {
	case err == nil:
		w.lastErr = ""
	case ctx.Err() == nil && err.Error() != w.lastErr:
		w.lastErr = err.Error()
		c.deps.Log.WarnContext(ctx, "live events are late", "err", err)
	}
}

func (c *Console) lookLocked(ctx context.Context) error {
	sum, devices, rollouts, incidents, err := c.survey(ctx)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error {
			return tell(c, "device", devices, func(d client.Device) string { return string(d.ID) })
		},
		func() error { return c.tellRouters(ctx) },
		func() error { return c.tellDrifts(ctx) },
		func() error { return tell(c, "rollout", rollouts, func(r client.Rollout) string { return r.ID }) },
		func() error { return tell(c, "incident", incidents, func(i client.Incident) string { return i.ID }) },
		func() error { return c.tellDecisions(ctx) },
		func() error { return c.tellSummary(sum) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// tell publishes the objects of one noun that differ from what was told. The
// first look after nobody listened tells nothing.
func tell[T any](c *Console, kind string, all []T, id func(T) string) error {
	w := &c.watch
	if w.objects == nil {
		w.objects = map[string]map[string]string{}
	}
	old, known := w.objects[kind]
	now := make(map[string]string, len(all))
	for _, v := range all {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		k := id(v)
		now[k] = string(b)
		if known && old[k] != now[k] {
			if err := c.hub.publish(kind, v); err != nil {
				return err
			}
		}
	}
	w.objects[kind] = now
	return nil
}

func (c *Console) tellRouters(ctx context.Context) error {
	r, ok := c.deps.Devices.(Routers)
	if !ok {
		return nil
	}
	all, err := r.Routers(ctx)
	if err != nil {
		return err
	}
	return tell(c, "router", all, func(r client.Router) string { return string(r.ID) })
}

// driftsOver bounds how many drifts that are over one look compares.
const driftsOver = 200

func (c *Console) tellDrifts(ctx context.Context) error {
	if c.deps.Drifts == nil {
		return nil
	}
	all, err := c.deps.Drifts.Drifts(ctx)
	if err != nil {
		return err
	}
	return tell(c, "drift", newest(all, driftsOver, c.watch.objects["drift"]), func(d client.Drift) string { return d.ID })
}

// tellBasket publishes that a basket was changed, which happens here only: a
// look would have to read every edit that was ever made.
func (c *Console) tellBasket(ctx context.Context, b client.BasketView) {
	if err := c.hub.publish("basket", client.BasketNews{ID: b.ID, State: b.State, Version: b.Version}); err != nil {
		c.deps.Log.WarnContext(ctx, "live events are late", "err", err)
	}
}

func (c *Console) tellSummary(s client.Summary) error {
	w := &c.watch
	same := s
	same.At, same.RSSBytes = time.Time{}, 0 // these change always and mean nothing alone
	b, err := json.Marshal(same)
	if err != nil {
		return err
	}
	if bytes.Equal(b, w.summary) {
		return nil
	}
	w.summary = b
	return c.hub.publish("summary", s)
}

func (c *Console) tellDecisions(ctx context.Context) error {
	w := &c.watch
	recent, err := c.deps.Decisions.Decisions(ctx, client.DecisionFilter{Limit: decisionsPerLook})
	if err != nil {
		return err
	}
	first := w.decision == ""
	told := w.decision
	if len(recent) > 0 {
		w.decision = recent[0].ID
	} else {
		w.decision = "none"
	}
	if first {
		return nil
	}
	if i := slices.IndexFunc(recent, func(d client.Decision) bool { return d.ID == told }); i >= 0 {
		recent = recent[:i]
	}
	for _, d := range slices.Backward(recent) { // oldest first
		if err := c.hub.publish("decision", d); err != nil {
			return err
		}
	}
	return nil
}
