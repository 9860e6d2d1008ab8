package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	minSample     = time.Second      // shortest sample and heartbeat interval
	defaultSample = 10 * time.Second // when the client leaves it to us
	perMessage    = 500              // updates in one notification, well under any message limit
)

// feed is one subscription of a stream: which leaves, and when.
type feed struct {
	pattern  pattern
	wants    func(*leaf) bool
	every    time.Duration // sample interval; 0: on change
	beat     time.Duration // resend unchanged values this often; 0: never
	suppress bool          // sample only what changed

	due, beatDue time.Time
	last         map[*leaf]any // what the client knows
	tree         *tree         // that leaves were selected from
	leaves       []*leaf
}

// Subscribe implements gnmi.GNMIServer for ONCE and STREAM. The stream runs in
// this one goroutine.
func (s *server) Subscribe(stream gnmi.GNMI_SubscribeServer) error {
	req, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	list := req.GetSubscribe()
	feeds, err := newFeeds(list)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for first := true; ; first = false {
		changed := s.agent.changed() // before the snapshot: nothing in between is missed
		snap, err := s.agent.snapshot(ctx)
		if err != nil {
			return toStatus(err)
		}
		now := time.Now()
		for _, f := range feeds {
			for _, n := range f.collect(snap, now) {
				if first && list.GetUpdatesOnly() {
					continue
				}
				if err := stream.Send(&gnmi.SubscribeResponse{Response: &gnmi.SubscribeResponse_Update{Update: n}}); err != nil {
					return err
				}
			}
		}
		if first {
			if err := stream.Send(&gnmi.SubscribeResponse{Response: &gnmi.SubscribeResponse_SyncResponse{SyncResponse: true}}); err != nil {
				return err
			}
		}
		if list.GetMode() == gnmi.SubscriptionList_ONCE {
			return nil
		}
		timer.Reset(wait(feeds, now))
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-changed:
		case <-timer.C:
		}
	}
}

// newFeeds reads a subscription list.
func newFeeds(list *gnmi.SubscriptionList) ([]*feed, error) {
	switch {
	case list == nil:
		return nil, status.Error(codes.InvalidArgument, "subscribe: the first message must be a SubscriptionList")
	case list.GetMode() == gnmi.SubscriptionList_POLL:
		return nil, status.Error(codes.Unimplemented, "subscribe: POLL; use ONCE or STREAM")
	case len(list.GetSubscription()) == 0:
		return nil, status.Error(codes.InvalidArgument, "subscribe: no subscription in the list")
	}
	switch e := list.GetEncoding(); e {
	case gnmi.Encoding_PROTO, gnmi.Encoding_JSON, gnmi.Encoding_JSON_IETF: // leaves are scalars in each
	default:
		return nil, status.Errorf(codes.Unimplemented, "subscribe: encoding %s; use PROTO", e)
	}
	var feeds []*feed
	for _, sub := range list.GetSubscription() {
		p, err := newPattern(list.GetPrefix(), sub.GetPath())
		if err != nil {
			return nil, err
		}
		f, err := newFeed(p, sub, list.GetMode())
		if err != nil {
			return nil, err
		}
		feeds = append(feeds, f...)
	}
	return feeds, nil
}

func newFeed(p pattern, sub *gnmi.Subscription, mode gnmi.SubscriptionList_Mode) ([]*feed, error) {
	nodes, err := p.nodes()
	if err != nil {
		return nil, err
	}
	every, err := interval(p, "sample_interval", sub.GetSampleInterval())
	if err != nil {
		return nil, err
	}
	beat, err := interval(p, "heartbeat_interval", sub.GetHeartbeatInterval())
	if err != nil {
		return nil, err
	}
	if every == 0 {
		every = defaultSample
	}
	all := func(*leaf) bool { return true }
	sampled := func(l *leaf) bool { return l.counter }
	state := func(l *leaf) bool { return !l.counter }
	sampling := feed{pattern: p, every: every, beat: beat, suppress: sub.GetSuppressRedundant(), wants: all}
	changing := feed{pattern: p, beat: beat, wants: all}
	switch {
	case mode == gnmi.SubscriptionList_ONCE || sub.GetMode() == gnmi.SubscriptionMode_SAMPLE:
		return []*feed{&sampling}, nil
	case sub.GetMode() == gnmi.SubscriptionMode_TARGET_DEFINED:
		sampling.wants, changing.wants = sampled, state
		return []*feed{&sampling, &changing}, nil
	case slices.ContainsFunc(nodes, func(n *node) bool { return n.counter }):
		return nil, status.Errorf(codes.InvalidArgument, "subscribe %s: ON_CHANGE over counters; use SAMPLE or TARGET_DEFINED, or name the states below it", p)
	}
	return []*feed{&changing}, nil
}

func interval(p pattern, field string, ns uint64) (time.Duration, error) {
	if ns == 0 {
		return 0, nil
	}
	if ns < uint64(minSample) || ns > uint64(24*time.Hour) {
		return 0, status.Errorf(codes.InvalidArgument, "subscribe %s: %s of %d ns is not in [%s, 24h]", p, field, ns, minSample)
	}
	return time.Duration(ns), nil
}

// wait is how long until a feed has something to send by the clock.
func wait(feeds []*feed, now time.Time) time.Duration {
	next := now.Add(time.Hour)
	for _, f := range feeds {
		for _, due := range []time.Time{f.due, f.beatDue} {
			if !due.IsZero() && due.Before(next) {
				next = due
			}
		}
	}
	return next.Sub(now)
}

// collect returns what the client must be told at now.
func (f *feed) collect(snap snapshot, now time.Time) []*gnmi.Notification {
	gone := f.follow(snap.tree)
	sample := f.every > 0 && !now.Before(f.due)
	if f.every > 0 && !sample && len(gone) == 0 {
		return nil
	}
	beat := f.beat > 0 && !now.Before(f.beatDue)
	var updates []*gnmi.Update
	if f.every == 0 || sample {
		for _, l := range f.leaves {
			v := l.value(snap, l.name)
			old, told := f.last[l]
			switch {
			case v == nil && told:
				delete(f.last, l)
				gone = append(gone, l.path)
			case v == nil, told && v == old && !beat && (f.every == 0 || f.suppress):
			default:
				f.last[l] = v
				updates = append(updates, &gnmi.Update{Path: l.path, Val: scalar(v)})
			}
		}
	}
	f.schedule(sample, beat, now)
	return notifications(f.pattern.origin, snap.host.At, updates, gone)
}

// schedule keeps samples on a fixed beat; ones that were missed are not made up.
func (f *feed) schedule(sample, beat bool, now time.Time) {
	if sample {
		if f.due = f.due.Add(f.every); f.due.Before(now) {
			f.due = now.Add(f.every)
		}
	}
	if beat {
		f.beatDue = now.Add(f.beat)
	}
}

// follow selects leaves anew when the configuration changed, and returns the
// paths that the client knows and that are no more.
func (f *feed) follow(t *tree) []*gnmi.Path {
	if f.tree == t {
		return nil
	}
	f.tree, f.leaves = t, f.pattern.selects(t, f.wants)
	type key struct {
		*node
		key string
	}
	fresh := make(map[key]*leaf, len(f.leaves))
	for _, l := range f.leaves {
		fresh[key{l.node, l.key}] = l
	}
	last := make(map[*leaf]any, len(f.leaves))
	var gone []*gnmi.Path
	for old, v := range f.last {
		if l, ok := fresh[key{old.node, old.key}]; ok {
			last[l] = v
		} else {
			gone = append(gone, old.path)
		}
	}
	f.last = last
	return gone
}

func notifications(origin string, at time.Time, updates []*gnmi.Update, gone []*gnmi.Path) []*gnmi.Notification {
	var out []*gnmi.Notification
	for len(updates)+len(gone) > 0 {
		u, g := min(len(updates), perMessage), min(len(gone), perMessage)
		out = append(out, &gnmi.Notification{
			Timestamp: at.UnixNano(),
			Prefix:    &gnmi.Path{Origin: origin},
			Update:    updates[:u], Delete: gone[:g],
		})
		updates, gone = updates[u:], gone[g:]
	}
	return out
}

// snapshot reads the device once.
func (a *Agent) snapshot(ctx context.Context) (snapshot, error) {
	h, err := a.deps.Host.State(ctx)
	if err != nil {
		return snapshot{}, fmt.Errorf("read host state: %w", err)
	}
	s := snapshot{
		view:     a.look(),
		alarms:   a.Alarms(),
		host:     h,
		circuits: make(map[string]*CircuitState, len(h.Circuits)),
		tunnels:  make(map[string]*TunnelState, len(h.Tunnels)),
	}
	for i := range h.Circuits {
		s.circuits[h.Circuits[i].Name] = &h.Circuits[i]
	}
	for i := range h.Tunnels {
		s.tunnels[h.Tunnels[i].Name] = &h.Tunnels[i]
	}
	return s, nil
}
