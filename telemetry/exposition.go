package telemetry

import (
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Labels looks a series' site and carrier up in the inventory; carrier is
// empty where none applies (a hub's view of many, a device's own series).
type Labels func(device inventory.DeviceID, object string) (site inventory.SiteID, carrier inventory.CarrierID)

// series is the last value of one series. The writer stores bits, the scraper
// loads them: neither waits for the other.
type series struct {
	device inventory.DeviceID
	object string
	head   atomic.Pointer[[]byte] // `name{labels} `, rendered once
	bits   atomic.Uint64          // math.Float64bits of the value
	at     atomic.Int64           // receive time, Unix ns
	gone   atomic.Bool
}

func (s *series) set(v float64, now time.Time) {
	s.bits.Store(math.Float64bits(v))
	s.at.Store(now.UnixNano())
}

// exposition holds the last value of every series, grouped by metric as the
// text format wants it. Its lock is taken when series come and go, never by an
// update.
type exposition struct {
	labels   Labels
	stale    time.Duration // a series without an update for so long is left out, save the collector's own
	mu       sync.RWMutex
	families map[string][]*series
	total    int
}

func newExposition(labels Labels, stale time.Duration) *exposition {
	return &exposition{labels: labels, stale: stale, families: map[string][]*series{}}
}

func (e *exposition) len() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.total
}

// add registers a series.
func (e *exposition) add(metric string, device inventory.DeviceID, object string) *series {
	s := &series{device: device, object: object}
	e.render(metric, s)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.families[metric] = append(e.families[metric], s)
	e.total++
	return s
}

func (e *exposition) render(metric string, s *series) {
	site, carrier := e.labels(s.device, s.object)
	b := append([]byte(metric), '{')
	label := func(name, value string) {
		if value == "" {
			return
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(append(b, name...), '=', '"')
		b = append(append(b, labelEscaper.Replace(value)...), '"')
	}
	label("device", string(s.device))
	label("site", string(site))
	label("object", s.object)
	label("carrier", string(carrier))
	b = append(b, '}', ' ')
	s.head.Store(&b)
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// relabel renders all heads again after a change of the inventory.
func (e *exposition) relabel() {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for metric, list := range e.families {
		for _, s := range list {
			e.render(metric, s)
		}
	}
}

// remove forgets the series that were marked gone.
func (e *exposition) sweep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.total = 0
	for metric, list := range e.families {
		kept := make([]*series, 0, len(list)) // a scraper may still walk the old one
		for _, s := range list {
			if !s.gone.Load() {
				kept = append(kept, s)
			}
		}
		e.families[metric] = kept
		e.total += len(kept)
	}
}

// ServeHTTP writes the device series in Prometheus' text format.
func (e *exposition) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	e.write(w, time.Now()) //nolint:errcheck // the scraper went away; nobody is left to tell
}

func (e *exposition) write(w io.Writer, now time.Time) error {
	buf := make([]byte, 0, 64<<10)
	oldest := now.Add(-e.stale).UnixNano()
	for _, m := range Catalogue {
		e.mu.RLock()
		list := e.families[m.Name]
		e.mu.RUnlock()
		if len(list) == 0 {
			continue
		}
		typ := "gauge"
		if m.Kind == Counter {
			typ = "counter"
		}
		buf = append(buf, "# HELP "+m.Name+" "+m.Help+"\n# TYPE "+m.Name+" "+typ+"\n"...)
		own := strings.HasPrefix(m.Name, "device_")
		for _, s := range list {
			if s.gone.Load() || !own && s.at.Load() < oldest {
				continue
			}
			buf = append(buf, *s.head.Load()...)
			buf = appendValue(buf, math.Float64frombits(s.bits.Load()))
			buf = append(buf, '\n')
			if len(buf) > 60<<10 {
				if _, err := w.Write(buf); err != nil {
					return err
				}
				buf = buf[:0]
			}
		}
	}
	_, err := w.Write(buf)
	return err
}

// appendValue renders integers without the float formatter, which is most of a
// scrape's cost.
func appendValue(b []byte, v float64) []byte {
	if i := int64(v); float64(i) == v && i < 1<<53 && i > -(1<<53) {
		return strconv.AppendInt(b, i, 10)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}
