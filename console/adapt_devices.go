package console

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/channel"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/telemetry"
)

// Tunnels remembers the last tunnel_up of both ends of every tunnel. It is a
// sink of the collector.
type Tunnels struct {
	mu sync.Mutex
	up map[inventory.DeviceID]map[string]bool
}

// NewTunnels makes an empty memory.
func NewTunnels() *Tunnels { return &Tunnels{up: map[inventory.DeviceID]map[string]bool{}} }

// Observe takes a sample; all but tunnel states are of no interest.
func (t *Tunnels) Observe(s telemetry.Sample) {
	if s.Metric != telemetry.TunnelUp {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.up[s.Device]
	if m == nil {
		m = map[string]bool{}
		t.up[s.Device] = m
	}
	m[s.Object] = s.Value >= 0.5
}

// count counts the tunnels of cfg and those that are up: by the device's own
// word while live, else by the other end's, which still sees the traffic.
func (t *Tunnels) count(cfg edge.Config, live func(inventory.DeviceID) bool) (up, total int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tun := range cfg.Tunnels {
		for _, end := range []inventory.DeviceID{cfg.Device, tun.Peer} {
			if live(end) {
				up += one(t.up[end][tun.Name])
				break
			}
		}
	}
	return up, len(cfg.Tunnels)
}

// Observed is what the other packages see of the devices.
type Observed interface {
	Status(id inventory.DeviceID) (controller.Status, error)
	Want(id inventory.DeviceID) (edge.Config, error)
}

// DeviceSources are what a device's view is joined from; all but Mark, Agent and
// Quarantined are required.
type DeviceSources struct {
	Inventory    Inventory
	Controller   Observed
	Certificates func(context.Context) ([]pki.Certificate, error) // newest first
	Mark         func(context.Context) (string, error)            // another one when Certificates may be others; nil: always
	Sessions     func() []channel.Session
	Targets      func() []telemetry.TargetStatus
	Tunnels      *Tunnels
	Agent        func(inventory.DeviceID) string // version of its agent, "" when unknown
	// Quarantined lists the devices in quarantine; nil: none ever is.
	// Mark tells of a change of them as well.
	Quarantined func(context.Context) ([]pki.Quarantine, error)
}

// JoinedDevices is [Devices].
type JoinedDevices struct {
	src DeviceSources

	mu    sync.Mutex
	certs map[inventory.DeviceID]pki.Certificate // newest valid one when they were read, without chain
	// suspects says why a device is in quarantine; like certs it is never changed
	// once made.
	suspects map[inventory.DeviceID]string
	mark     string // of both
	read     time.Time
}

// AdaptDevices joins what is declared with what is observed.
func AdaptDevices(src DeviceSources) *JoinedDevices { return &JoinedDevices{src: src} }

// certAge is how long read certificates are used again without asking whether
// there are others: an open page asks every second.
const certAge = time.Second

// observation is what is known of all devices at one moment.
type observation struct {
	certs    map[inventory.DeviceID]pki.Certificate // newest valid one
	sessions map[inventory.DeviceID]channel.Session
	targets  map[inventory.DeviceID]telemetry.TargetStatus
	suspects map[inventory.DeviceID]string // why in quarantine
}

func (j *JoinedDevices) observe(ctx context.Context) (observation, error) {
	o := observation{sessions: map[inventory.DeviceID]channel.Session{}, targets: map[inventory.DeviceID]telemetry.TargetStatus{}}
	var err error
	if o.certs, err = j.validCerts(ctx, certAge); err != nil {
		return o, err
	}
	j.mu.Lock()
	o.suspects = j.suspects
	j.mu.Unlock()
	for _, s := range j.src.Sessions() {
		o.sessions[s.Device] = s
	}
	for _, t := range j.src.Targets() {
		o.targets[t.Device] = t
	}
	return o, nil
}

// Certified gives until when the certificate of a device is valid, the zero
// time for one without. It is as things are now, and costs little while none is
// added or revoked.
func (j *JoinedDevices) Certified(ctx context.Context) (until func(inventory.DeviceID) time.Time, err error) {
	certs, err := j.validCerts(ctx, 0)
	return func(id inventory.DeviceID) time.Time { return certs[id].NotAfter }, err
}

// Quarantine gives why a device is in quarantine, "" when it is not, as of the
// last look at the certificates.
func (j *JoinedDevices) Quarantine(id inventory.DeviceID) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.suspects[id]
}

// validCerts is the newest valid certificate of each device, as it was so long
// ago at most; the map is never changed once made.
func (j *JoinedDevices) validCerts(ctx context.Context, age time.Duration) (map[inventory.DeviceID]pki.Certificate, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	if j.certs != nil && now.Sub(j.read) < age {
		return j.certs, nil
	}
	mark := ""
	if j.src.Mark != nil { // before they are read: what comes in between is read again
		var err error
		if mark, err = j.src.Mark(ctx); err != nil {
			return nil, err
		}
		if j.certs != nil && mark == j.mark {
			j.read = now
			return j.certs, nil
		}
	}
	all, err := j.src.Certificates(ctx)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	certs := make(map[inventory.DeviceID]pki.Certificate, len(all))
	for _, c := range all {
		if _, ok := certs[c.Device]; !ok && c.Device != "" && c.State(now) == "valid" {
			c.Chain = "" // thousands of them are kept
			certs[c.Device] = c
		}
	}
	suspects := map[inventory.DeviceID]string{}
	if j.src.Quarantined != nil {
		list, err := j.src.Quarantined(ctx)
		if err != nil {
			return nil, fmt.Errorf("read quarantines: %w", err)
		}
		for _, q := range list {
			suspects[q.Device] = q.Reason
		}
	}
	j.certs, j.suspects, j.mark, j.read = certs, suspects, mark, now
	return certs, nil
}

// Devices implements [Devices]. Retired devices are left out.
func (j *JoinedDevices) Devices(ctx context.Context) ([]client.Device, error) {
	inv, _, err := j.src.Inventory.Load(ctx)
	if err != nil {
		return nil, err
	}
	o, err := j.observe(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]client.Device, 0, len(inv.Devices))
	for _, d := range inv.Devices {
		if d.Intended == inventory.Retired {
			continue
		}
		v, err := j.view(d, o)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// Device implements [Devices].
func (j *JoinedDevices) Device(ctx context.Context, id inventory.DeviceID) (client.Device, error) {
	inv, _, err := j.src.Inventory.Load(ctx)
	if err != nil {
		return client.Device{}, err
	}
	for _, d := range inv.Devices {
		if d.ID == id {
			o, err := j.observe(ctx)
			if err != nil {
				return client.Device{}, err
			}
			return j.view(d, o)
		}
	}
	return client.Device{}, fmt.Errorf("device %q: %w", id, inventory.ErrNotFound)
}

func (j *JoinedDevices) view(d inventory.Device, o observation) (client.Device, error) {
	v := client.Device{Device: d, Quarantine: o.suspects[d.ID]}
	if c, ok := o.certs[d.ID]; ok && c.State(time.Now()) == "valid" {
		v.Enrolled, v.CertSerial, v.CertNotAfter = true, c.Serial, &c.NotAfter
	}
	_, v.Connected = o.sessions[d.ID]
	if j.src.Agent != nil {
		v.AgentVersion = j.src.Agent(d.ID)
	}
	if t := o.targets[d.ID]; !t.Last.IsZero() {
		v.LastSeen = &t.Last
	}
	st, err := j.src.Controller.Status(d.ID)
	if err != nil && !errors.Is(err, inventory.ErrNotFound) {
		return v, err
	}
	if err == nil {
		v.Revision, v.ConfigHash, v.InSync, v.Error = uint64(st.Revision), st.Hash, st.InSync(), st.Error
	}
	cfg, err := j.src.Controller.Want(d.ID)
	if err != nil && !errors.Is(err, inventory.ErrNotFound) {
		return v, err
	}
	v.TunnelsUp, v.TunnelsTotal = j.src.Tunnels.count(cfg, func(id inventory.DeviceID) bool {
		_, ok := o.sessions[id]
		return ok
	})
	v.State = stateOf(v)
	return v, nil
}

// stateOf is the traffic light. A hub's tunnels are its wards': it is judged by
// whether half of them are up, so that one ward's trouble does not colour it.
func stateOf(v client.Device) client.DeviceState {
	enough := v.TunnelsTotal
	if v.Role == inventory.RoleHub {
		enough = (v.TunnelsTotal + 1) / 2
	}
	switch {
	case v.Quarantine != "":
		return client.StateQuarantined
	case !v.Enrolled || v.Intended == inventory.Planned:
		return client.StatePlanned
	case !v.Connected, v.TunnelsTotal > 0 && v.TunnelsUp == 0:
		return client.StateDown
	case !v.InSync, v.TunnelsUp < enough:
		return client.StateDegraded
	}
	return client.StateOK
}
