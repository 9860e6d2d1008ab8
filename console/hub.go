package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
	"github.com/wardnet/wardnet/inventory"
)

// errStreams says that there are too many event streams.
var errStreams = errors.New("too many event streams")

// hub gives every event to every stream that may see it. A stream that does not
// keep up is closed, never waited for: its client reloads and opens a new one.
type hub struct {
	queue   int
	most    int
	metrics *metrics

	mu      sync.Mutex
	streams map[*stream]struct{}
	closed  bool
}

// stream is one subscriber's queue; events is closed when the stream ends.
type stream struct {
	who    people.Principal
	events chan client.Event
}

func newHub(queue, most int, m *metrics) *hub {
	return &hub{queue: queue, most: most, metrics: m, streams: map[*stream]struct{}{}}
}

// open adds a stream; first is queued before anything else.
func (h *hub) open(who people.Principal, first ...client.Event) (*stream, error) {
	s := &stream{who: who, events: make(chan client.Event, h.queue+len(first))}
	for _, e := range first {
		if s.sees(e) {
			s.events <- e
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.streams) >= h.most {
		return nil, fmt.Errorf("%w: %d are open", errStreams, len(h.streams))
	}
	h.streams[s] = struct{}{}
	h.metrics.streams.Set(float64(len(h.streams)))
	return s, nil
}

func (s *stream) sees(e client.Event) bool { return may(s.who, eventAccess[e.Type]) }

// leave ends a stream; leaving twice does nothing.
func (h *hub) leave(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(s)
}

func (h *hub) remove(s *stream) {
	if _, ok := h.streams[s]; ok {
		delete(h.streams, s)
		close(s.events)
		h.metrics.streams.Set(float64(len(h.streams)))
	}
}

// publish sends v to every stream that may see it.
func (h *hub) publish(kind string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: event %s: %w", inventory.ErrInvalid, kind, err)
	}
	e := client.Event{Type: kind, Data: data}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams {
		if !s.sees(e) {
			continue
		}
		select {
		case s.events <- e:
		default:
			h.remove(s)
			h.metrics.dropped.Inc()
		}
	}
	return nil
}

// busy says whether anybody listens.
func (h *hub) busy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams) > 0
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.streams {
		h.remove(s)
	}
}
