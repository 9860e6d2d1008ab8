package wireguard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/wardnet/wardnet/edge/render"
)

// journal remembers, across lives of the agent, what neither the process nor
// the kernel can tell: which interfaces are ours, and which endpoint a peer was
// given before it moved. It holds no secret. Losing it is harmless: endpoints
// are set once more, and interfaces nobody wants stay until the next boot.
type journal struct {
	path string
	mu   sync.Mutex
	all  map[string]map[string]netip.AddrPort // by interface, public key
}

func openJournal(path string) (*journal, error) {
	j := &journal{path: path, all: map[string]map[string]netip.AddrPort{}}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return j, nil
	case err != nil:
		return nil, fmt.Errorf("read the list of WireGuard devices: %w", err)
	}
	if err := json.Unmarshal(raw, &j.all); err != nil || j.all == nil {
		j.all = map[string]map[string]netip.AddrPort{}
	}
	return j, nil
}

// names returns the interfaces that may be there.
func (j *journal) names() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Sorted(maps.Keys(j.all))
}

// configured returns the endpoints the peers of an interface were given.
func (j *journal) configured(name string) map[string]netip.AddrPort {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.all[name] // never changed in place
}

// extend adds interfaces that are about to be made.
func (j *journal) extend(devices []render.WireGuard) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	next := maps.Clone(j.all)
	for _, d := range devices {
		if _, ok := next[d.Name]; !ok {
			next[d.Name] = map[string]netip.AddrPort{}
		}
	}
	return j.write(next)
}

// replace writes down what is in force.
func (j *journal) replace(devices []render.WireGuard) error {
	next := map[string]map[string]netip.AddrPort{}
	for _, d := range devices {
		next[d.Name] = map[string]netip.AddrPort{}
		for _, p := range d.Peers {
			if p.Endpoint.IsValid() {
				next[d.Name][p.PublicKey] = plain(p.Endpoint)
			}
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.write(next)
}

// write puts next in force if it differs. The caller holds mu.
func (j *journal) write(next map[string]map[string]netip.AddrPort) error {
	same := maps.EqualFunc(j.all, next, maps.Equal)
	if same {
		return nil
	}
	raw, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write the list of WireGuard devices: %w", err)
	}
	if err := os.WriteFile(j.path+".new", raw, 0o600); err != nil {
		return fmt.Errorf("write the list of WireGuard devices: %w", err)
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		return fmt.Errorf("write the list of WireGuard devices: %w", err)
	}
	j.all = next
	return nil
}
