package linux

import (
	"context"
	"maps"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge/host/frr"
)

const (
	pollPause   = 300 * time.Millisecond // between looks at the sessions, while somebody watches and they move
	calmPause   = 2 * time.Second        // the same when they have not moved for stirred, unless a route changes
	stirred     = 20 * time.Second
	daemonPause = time.Second            // between looks whether FRR lives
	resyncPause = time.Minute            // between looks for what others changed
	settle      = 100 * time.Millisecond // a burst of kernel messages counts as one
	apart       = 500 * time.Millisecond // and two such bursts are told at least so far apart
	wide        = 3 * time.Second        // the same of bursts of new routes to elsewhere, on a box that has been still
	retryPause  = 2 * time.Second        // after a failed try to heal
)

// keep brings the box back to what it should be: at once when asked, when a
// daemon died, and every minute.
func (h *Host) keep(ctx context.Context) error {
	daemons := time.NewTicker(daemonPause)
	defer daemons.Stop()
	resync := time.NewTimer(rand.N(resyncPause)) // boxes that share a power switch do not all look at once
	defer resync.Stop()
	routed := time.NewTicker(routedPause)
	defer routed.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.healing:
		case <-routed.C:
			if !h.rerouted(ctx) {
				continue
			}
		case <-resync.C:
			resync.Reset(resyncPause)
		case <-daemons.C:
			if now := h.current(); nothing(now.config) || now.box.FRR == "" || len(h.routing.Down()) == 0 {
				continue
			}
			h.deps.Log.WarnContext(ctx, "routing daemons are down", "err", h.routing.Down())
		}
		err := h.mend(ctx)
		if ctx.Err() != nil {
			return nil
		}
		text := ""
		if err != nil {
			text = err.Error()
			time.AfterFunc(retryPause, h.heal)
		}
		if text != said && err != nil {
			h.deps.Log.ErrorContext(ctx, "box cannot be brought back", "err", err)
		}
		said = text
	}
}

// mend converges the box once, with what the circuits have learned since.
func (h *Host) mend(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.current()
	if !now.applied {
		return nil // an earlier process' box: the agent applies soon
	}
	before := now.box
	now, err := h.make(now.config, now.keys)
	if err != nil {
		return err
	}
	diff, err := h.differences(ctx, now)
	if err != nil || len(diff) == 0 {
		return err
	}
	h.metrics.heals.Inc()
	var others []string
	if reflect.DeepEqual(before, now.box) { // else a circuit learned something new
		others = byOthers(diff, len(h.routing.Down()) > 0)
	}
	h.deps.Log.InfoContext(ctx, "box differs, setting it again", "first", diff[0], "count", len(diff))
	if err := h.converge(ctx, now); err != nil {
		return err
	}
	h.noteMend(others)
	h.adopt(now)
	return nil
}

// listen hears the kernel: links, addresses and routes. A subscription that
// breaks, as when its buffer overflows, is made anew and counts as a change.
func (h *Host) listen(ctx context.Context) error {
	for {
		err := h.hear(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			h.deps.Log.WarnContext(ctx, "kernel cannot be heard, trying again", "err", err)
		}
		h.heal()
		h.wake()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(daemonPause):
		}
	}
}

func (h *Host) hear(ctx context.Context) error {
	stop := make(chan struct{})
	defer close(stop)
	links := make(chan netlink.LinkUpdate, 64)
	addrs := make(chan netlink.AddrUpdate, 64)
	routes := make(chan netlink.RouteUpdate, 256)
	quiet := func(error) {} // the channel closes
	if err := netlink.LinkSubscribeWithOptions(links, stop, netlink.LinkSubscribeOptions{ErrorCallback: quiet}); err != nil {
		return err
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, stop, netlink.AddrSubscribeOptions{ErrorCallback: quiet}); err != nil {
		return err
	}
	if err := netlink.RouteSubscribeWithOptions(routes, stop, netlink.RouteSubscribeOptions{ErrorCallback: quiet}); err != nil {
		return err
	}
	h.tables.listen(true)
	defer h.tables.listen(false)
	up := map[string]bool{}
	pending := time.NewTimer(0)
	pending.Stop()
	var told, due time.Time // due: when pending fires; zero: it does not
	mend := false
	for {
		ours, news, ok := false, false, true
		select {
		case <-ctx.Done():
			return nil
		case <-pending.C:
			told, due = time.Now(), time.Time{}
			h.glance()
			if mend {
				h.heal()
				mend = false
			}
			h.wake()
			continue
		case u, open := <-links:
			if ok = open; ok {
				at := u.Attrs()
				running := at.RawFlags&unix.IFF_RUNNING != 0
				if running && !up[at.Name] {
					h.wan.kick(at.Name)
				}
				up[at.Name] = running
				ours = true
			}
		case _, ok = <-addrs:
			ours = true
		case u, open := <-routes:
			ok = open
			ours = open && u.Protocol == Protocol && u.Type == unix.RTM_DELROUTE
			news = u.Type == unix.RTM_NEWROUTE
		}
		if !ok {
			return nil
		}
		h.tables.changed()
		mend = mend || ours
		// In a city that grows, every box hears of every new site: that is no
		// hurry, unless this box waits for its own.
		between := apart
		if news && !h.changing() {
			between = wide
		}
		at := time.Now().Add(max(settle, between-time.Since(told)))
		if due.IsZero() || at.Before(due) {
			due = at
			pending.Reset(time.Until(at))
		}
	}
}

// changing says whether the box runs its configuration for a short time only.
func (h *Host) changing() bool {
	h.viewMu.Lock()
	defer h.viewMu.Unlock()
	return time.Since(h.viewed) < stirred
}

// poll looks at the sessions while somebody watches; FRR does not tell. A box
// where nothing has moved for a while is asked less often.
func (h *Host) poll(ctx context.Context) error {
	timer := time.NewTimer(pollPause)
	defer timer.Stop()
	var last frr.Sessions
	var box string
	moved := time.Now()
	dead := kicker{}
	for {
		glanced := false
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-h.moving:
			glanced = true
		}
		pause := pollPause
		if time.Since(moved) > stirred {
			pause = calmPause
		}
		timer.Reset(pause)
		force := h.current()
		if force.box.FRR != box {
			box, moved = force.box.FRR, time.Now()
		}
		if !h.watched() || box == "" {
			continue
		}
		age := time.Duration(0)
		if pause == calmPause && !glanced {
			age = calmPause - fresh // who looks as often spares us the question
		}
		now, err := h.sessions(ctx, age)
		if err != nil {
			continue // State says so to who asks
		}
		h.kick(ctx, dead.due(force, now.BFD, time.Now()))
		if !maps.Equal(now.BFD, last.BFD) || !maps.Equal(now.BGP, last.BGP) {
			last, moved = now, time.Now()
			h.wake()
		}
	}
}

// glance asks for another look at the sessions: a route that goes may have lost
// its session.
func (h *Host) glance() {
	select {
	case h.moving <- struct{}{}:
	default:
	}
}

// sessions are those of routing, at most as old as age.
func (h *Host) sessions(ctx context.Context, age time.Duration) (frr.Sessions, error) {
	h.viewMu.Lock()
	last := h.asked
	h.viewMu.Unlock()
	if time.Since(last.at) < age {
		return last.sessions, nil
	}
	at := time.Now()
	s, err := h.routing.Sessions(ctx)
	if err != nil {
		return s, err
	}
	h.viewMu.Lock()
	if at.After(h.viewed) {
		h.asked = answer{at, s}
	}
	h.viewMu.Unlock()
	return s, nil
}

// answer is what routing said of its sessions.
type answer struct {
	at       time.Time
	sessions frr.Sessions
}
