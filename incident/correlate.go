package incident

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/inventory"
)

// correlate gives the waiting findings to causes, and these to incidents.
func (b *Book) correlate(topo *Topology) {
	waiting := b.waiting()
	if len(waiting) == 0 {
		return
	}
	var all, fresh []anomaly.Finding
	owner := map[string]*active{} // of a young incident's symptom, by finding id
	for _, t := range b.open {
		if !t.gated {
			all = append(all, t.f)
		}
	}
	known := map[Cause]bool{}
	for _, a := range b.active {
		if a.State == Resolved {
			continue
		}
		young := b.now.Sub(a.Opened) < b.cfg.Young
		known[a.Cause] = !young
		if !young {
			continue
		}
		for id, t := range a.symptoms {
			if t.f.Severity == anomaly.Info || t.conseq {
				continue
			}
			owner[id] = a
			fresh = append(fresh, t.f)
			if !t.f.To.IsZero() {
				all = append(all, t.f) // what was seen stays evidence while the cause is being found
			}
		}
	}
	ev := newEvidence(topo, all)
	left := map[string]*tracked{}
	for _, t := range waiting {
		if a := b.followsFrom(ev, t); a != nil {
			b.attach(a, t, true)
			continue
		}
		left[t.f.ID] = t
		fresh = append(fresh, t.f)
	}
	if len(left) == 0 {
		return
	}
	for _, g := range newExplainer(ev, fresh, known).explain(fresh) {
		b.settle(topo, ev, g, left, owner)
	}
}

// waiting lists the findings that count and have no incident yet, oldest first.
func (b *Book) waiting() []*tracked {
	var out []*tracked
	for _, t := range b.open {
		if t.in == nil && !t.gated && t.f.Severity != anomaly.Info {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(x, y *tracked) int { return cmp.Or(x.f.From.Compare(y.f.From), cmp.Compare(x.f.ID, y.f.ID)) })
	return out
}

// followsFrom finds the open incident that made a path worse without cutting
// it: traffic that moved to the backup.
func (b *Book) followsFrom(ev *evidence, t *tracked) *active {
	s, ok := ev.topo.subjectOf(t.f)
	if !ok || t.f.Kind != anomaly.TunnelLoss && t.f.Kind != anomaly.TunnelLatency {
		return nil
	}
	if f, bad := ev.circuits[s.circuit]; bad && !f.degraded {
		return nil
	}
	for _, a := range b.active {
		if a.State != Resolved && slices.Contains(a.Members, s.site) && t.f.From.Sub(a.Started).Abs() <= b.cfg.Consequence {
			return a
		}
	}
	return nil
}

// settle turns one explained group into an incident, or adds it to one.
func (b *Book) settle(topo *Topology, ev *evidence, g group, left map[string]*tracked, owner map[string]*active) {
	var (
		news   []*tracked
		owners []*active
		target *active
	)
	for _, f := range g.findings {
		if t := left[f.ID]; t != nil {
			news = append(news, t)
		}
		if a := owner[f.ID]; a != nil && !slices.Contains(owners, a) {
			owners = append(owners, a)
		}
	}
	for _, a := range b.active {
		if a.State != Resolved && a.Cause == g.cause {
			target = a
		}
	}
	slices.SortFunc(owners, func(x, y *active) int { return cmp.Or(x.Opened.Compare(y.Opened), cmp.Compare(x.ID, y.ID)) })
	if target == nil {
		for _, a := range owners {
			if g.cause.Kind.rank() < a.Cause.Kind.rank() && holds(g, a) {
				target = a
				b.refine(a, g.cause)
				break
			}
		}
	}
	if target == nil && len(news) > 0 && b.ripe(g.cause, news) {
		target = b.begin(topo, g.cause, news)
	}
	if target == nil {
		return
	}
	for _, t := range news {
		s, _ := topo.subjectOf(t.f)
		_, cut := ev.cut(s.site)
		moved := t.f.Kind == anomaly.DeviceDown && !cut && (g.cause.Kind == CauseCarrier || g.cause.Kind == CauseCircuit)
		b.attach(target, t, moved)
	}
	for _, a := range owners {
		if a != target && a.State != Resolved && a.Cause.Kind.rank() >= target.Cause.Kind.rank() && holds(g, a) {
			b.merge(target, a)
		}
	}
	b.refresh(topo, target)
}

// holds says that the group explains every symptom of a.
func holds(g group, a *active) bool {
	in := map[string]bool{}
	for _, f := range g.findings {
		in[f.ID] = true
	}
	for id, t := range a.symptoms {
		if !in[id] && !t.conseq && t.f.Severity != anomaly.Info {
			return false
		}
	}
	return true
}

// ripe says that a group waited long enough to have shown its cause. What
// points at one device or tunnel alone waits longer, for it is most often the
// first sign of something greater.
func (b *Book) ripe(c Cause, news []*tracked) bool {
	first, last := news[0].arrived, news[0].arrived
	for _, t := range news {
		if t.arrived.Before(first) {
			first = t.arrived
		}
		if t.arrived.After(last) {
			last = t.arrived
		}
	}
	wait, most := b.cfg.Wait, b.cfg.MaxWait
	switch c.Kind {
	case CauseDevice, CauseUnknown:
		wait, most = 3*wait, 3*wait
	case CauseTunnel:
		wait, most = 2*wait, 2*wait
	}
	age := b.now.Sub(first)
	return age >= wait && (b.now.Sub(last) >= b.cfg.Quiet || age >= most)
}

// begin opens an incident, or reopens the one that this goes on with.
func (b *Book) begin(topo *Topology, cause Cause, news []*tracked) *active {
	sites := map[inventory.SiteID]bool{}
	started := news[0].f.From
	for _, t := range news {
		s, _ := topo.subjectOf(t.f)
		sites[s.site] = true
		if t.f.From.Before(started) {
			started = t.f.From
		}
	}
	for _, a := range slices.Backward(b.active) {
		if a.State != Resolved || a.MergedInto != "" || a.Cause != cause || b.now.Sub(a.Resolved) > b.cfg.Reopen {
			continue
		}
		common := 0
		for s := range sites {
			if slices.Contains(a.Members, s) {
				common++
			}
		}
		if 2*common < len(sites) {
			continue // the same carrier, but another part of the city
		}
		a.log(b.now, "wardnet", "reopened", fmt.Sprintf("the cause came back %s after the incident was resolved", b.now.Sub(a.Resolved).Round(time.Second)))
		a.State, a.Resolved, a.ByHand, a.quiet = Open, time.Time{}, false, time.Time{}
		a.Reopened++
		b.m.reopened.Inc()
		return a
	}
	a := &active{symptoms: map[string]*tracked{}, dirty: map[string]bool{}, changed: true}
	a.Incident = Incident{Cause: cause, State: Open, Started: started.UTC(), Opened: b.now.UTC()}
	b.active = append(b.active, a)
	a.log(started, "wardnet", "symptom", "first symptom: "+news[0].f.Why)
	a.log(b.now, "wardnet", "opened", fmt.Sprintf("cause %s %s explains %d findings", cause.Kind, cause.ID, len(news)))
	b.m.opened.WithLabelValues(string(cause.Kind)).Inc()
	b.m.detection.Observe(b.now.Sub(started).Seconds())
	return a
}

// attach makes a waiting finding a symptom of a.
func (b *Book) attach(a *active, t *tracked, consequence bool) {
	t.in, t.conseq = a, consequence
	a.symptoms[t.f.ID] = t
	a.touch(t)
	a.changed = true
	if !consequence && t.f.Severity != anomaly.Info {
		a.quiet = time.Time{}
		if t.f.From.Before(a.Started) {
			a.Started = t.f.From.UTC()
		}
	}
}

// refine names a more general cause for a young incident.
func (b *Book) refine(a *active, cause Cause) {
	a.log(b.now, "wardnet", "refined", fmt.Sprintf("cause %s %s, not %s %s: it explains more", cause.Kind, cause.ID, a.Cause.Kind, a.Cause.ID))
	a.Cause, a.changed = cause, true
}

// merge moves the symptoms of from into a; from stays in the record.
func (b *Book) merge(into, from *active) {
	for id, t := range from.symptoms {
		t.in = into
		into.symptoms[id] = t
		into.touch(t)
	}
	from.symptoms = map[string]*tracked{}
	clear(from.dirty)
	from.State, from.Resolved, from.MergedInto, from.changed = Resolved, b.now.UTC(), into.ID, true
	from.log(b.now, "wardnet", "merged", "the same cause as "+into.ID)
	into.log(b.now, "wardnet", "merged", "took over "+from.ID)
	b.m.merged.Inc()
}

// attachInfo hangs supporting evidence on the incidents of its site.
func (b *Book) attachInfo(topo *Topology) {
	for _, t := range b.open {
		if t.in != nil || t.gated || t.f.Severity != anomaly.Info {
			continue
		}
		s, _ := topo.subjectOf(t.f)
		for _, a := range b.active {
			if a.State != Resolved && slices.Contains(a.Members, s.site) && t.f.From.Sub(a.Started).Abs() <= b.cfg.Consequence {
				b.attach(a, t, true)
				break
			}
		}
	}
}

// refresh derives what an incident says of itself from its symptoms.
func (b *Book) refresh(topo *Topology, a *active) {
	sites := map[inventory.SiteID]bool{}
	for _, m := range a.Members {
		sites[m] = true
	}
	var added []string
	add := func(s inventory.SiteID) {
		if s != "" && !sites[s] {
			sites[s] = true
			a.Members = append(a.Members, s)
			added = append(added, string(s))
		}
	}
	for _, t := range a.symptoms {
		if !t.conseq && t.f.Severity != anomaly.Info {
			s, _ := topo.subjectOf(t.f)
			add(s.site)
		}
	}
	if a.Cause.Kind == CauseHub {
		add(inventory.SiteID(a.Cause.ID))
	}
	slices.Sort(a.Members)
	if len(added) > 0 {
		slices.Sort(added)
		a.log(b.now, "wardnet", "member", fmt.Sprintf("%d sites affected: %s", len(added), strings.Join(added, ", ")))
		a.changed = true
	}
	describe(topo, a)
}
