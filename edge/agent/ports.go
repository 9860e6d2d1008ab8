package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// Ports are the WAN circuits a box runs before it has a configuration.
type Ports struct {
	Circuits []edge.Circuit `json:"circuits"`
}

// portsFile keeps a bundle's ports in the state directory.
const portsFile = "ports.json"

// LoadPorts reads a file of ports; all faults at once, wrapping
// [inventory.ErrInvalid].
func LoadPorts(path string) (Ports, error) { return loadPorts(path, true) }

// loadPorts refuses unknown fields when strict: in a file that a person wrote
// they are mistakes, in one that a newer agent kept they are not.
func loadPorts(path string, strict bool) (Ports, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Ports{}, fmt.Errorf("%w: WAN ports: %w", inventory.ErrInvalid, err)
	}
	var p Ports
	d := json.NewDecoder(bytes.NewReader(text))
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(&p); err != nil {
		return Ports{}, fmt.Errorf("%w: WAN ports %s: %w", inventory.ErrInvalid, path, err)
	}
	if err := p.Validate(); err != nil {
		return Ports{}, fmt.Errorf("WAN ports %s: %w", path, err)
	}
	return p, nil
}

// KeptPorts returns the ports of the bundle, which are kept in the state
// directory, or those kept there before; none when there never were any.
func KeptPorts(state string, b *enrol.Bundle) (Ports, error) {
	path := filepath.Join(state, portsFile)
	if b == nil || len(b.Ports) == 0 {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return Ports{}, nil
		}
		return loadPorts(path, false)
	}
	var p Ports
	for _, c := range b.Ports {
		p.Circuits = append(p.Circuits, edge.Circuit{
			Name: c.Name, Kind: c.Kind, Port: c.Port, Addressing: c.Addressing, Address: c.Address, Gateway: c.Gateway, MTU: c.MTU,
		})
	}
	if err := p.Validate(); err != nil {
		return Ports{}, fmt.Errorf("WAN ports of the enrolment bundle: %w", err)
	}
	dir, err := disk.Open(disk.OS{}, state)
	if err != nil {
		return Ports{}, err
	}
	return p, dir.Save(portsFile, p)
}

// Validate reports every fault at once.
func (p Ports) Validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	if len(p.Circuits) == 0 {
		fault("no circuits; a box needs one to reach the controller")
	}
	names, ports := map[string]bool{}, map[string]bool{}
	for i, c := range p.Circuits {
		if c.Name == "" || names[c.Name] {
			fault("circuits[%d]: name %q is empty or listed twice", i, c.Name)
		}
		if c.Port == "" || ports[c.Port] {
			fault("circuits[%d]: port %q is empty or listed twice", i, c.Port)
		}
		names[c.Name], ports[c.Port] = true, true
		static := c.Addressing == inventory.Static
		if static != c.Address.IsValid() || static != c.Gateway.IsValid() {
			fault("circuit %q: addressing %q with address %v and gateway %v; static needs both, the others neither", c.Name, c.Addressing, c.Address, c.Gateway)
		}
		if c.MTU < 1280 || c.MTU > 9216 {
			fault("circuit %q: mtu %d is not in [1280, 9216]", c.Name, c.MTU)
		}
	}
	return errors.Join(errs...)
}
