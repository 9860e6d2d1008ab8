package telemetry

import "sync"

// ring is a bounded queue between the streams and the sinks. When it is full
// the oldest sample gives way, for the newest says how things are now.
type ring struct {
	mu      sync.Mutex
	buf     []Sample
	head, n int
	wake    chan struct{} // of size 1, shared by the rings of one reader
}

func newRing(size int, wake chan struct{}) *ring { return &ring{buf: make([]Sample, size), wake: wake} }

// put adds s and says whether an older sample was dropped for it.
func (r *ring) put(s Sample) (dropped bool) {
	r.mu.Lock()
	i := (r.head + r.n) % len(r.buf)
	r.buf[i] = s
	if r.n == len(r.buf) {
		r.head = (r.head + 1) % len(r.buf)
		dropped = true
	} else {
		r.n++
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return dropped
}

// take moves up to cap(into) samples out, oldest first.
func (r *ring) take(into []Sample) []Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	into = into[:0]
	for r.n > 0 && len(into) < cap(into) {
		into = append(into, r.buf[r.head])
		r.buf[r.head] = Sample{} // let the strings go
		r.head = (r.head + 1) % len(r.buf)
		r.n--
	}
	return into
}

func (r *ring) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}
