// Package gnmibox is a simulated network device, labelled so: a gNMI server
// (specification 0.10) that holds a configuration of the OpenConfig models and
// refuses what does not fit them. It routes nothing; what it tells of its BGP
// sessions is what it is told to. It shares no code with the driver that it is
// for, and differs from the specification where real devices do ([Habits]).
package gnmibox

import (
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Habits are how one device differs from another. The zero value has Get,
// Capabilities, both JSON encodings and no Commit Confirmed.
type Habits struct {
	NoGet             bool
	NoCapabilities    bool
	Encoding          string // the only one it takes, "JSON" or "JSON_IETF"; "": both
	Names             string // "modules": wants them, "bare": knows none, "": either
	Commit            bool   // has Commit Confirmed; else the extension is ignored
	RefusesExtensions bool
	EmptyOrigin       bool     // paths have origin ""; else "openconfig"
	Target            string   // every prefix must have it
	Form              string   // of answers: "leaves", "mixed", "wrapped"; "": subtrees
	NoNotFound        bool     // says nothing of what it does not have
	AnyType           bool     // Get knows no type
	MaxMessage        int      // bytes of a request; 0: as large as gRPC takes
	Lacks             []string // of acl, bfd, routing-policy
	Tells             bool     // Capabilities lists its models
	Serial            string
	// Mute: it tells no state of BGP neighbours.
	Mute bool
}

// Device is one device. Its methods may be called at the same time.
type Device struct {
	gnmi.UnimplementedGNMIServer
	Habits // of [New]; those that change are guarded by mu
	schema *schema

	mu      sync.Mutex // guards all below
	config  *Store
	state   *Store // operational, of stateOf
	stateOf *Store
	trial   *Store // what a commit on trial returns to; nil: none
	id      string
	timer   *time.Timer
	sets    int
	session func(neighbour string) string // nil: ESTABLISHED
	spoil   func(*gnmi.Notification)
	fail    func(when string, s *Store) error
	down    bool
	cut     bool
}

// factory is what every device has that is not ours.
const factory = `{
 "interfaces": {"interface": [
  {"name": "mgmt0", "config": {"name": "mgmt0", "type": "iana-if-type:ethernetCsmacd", "description": "out-of-band", "mtu": 1500, "enabled": true},
   "subinterfaces": {"subinterface": [{"index": 0, "config": {"index": 0}, "ipv4": {"addresses": {"address": [{"ip": "192.0.2.10", "config": {"ip": "192.0.2.10", "prefix-length": 24}}]}}}]}},
  {"name": "eth1", "config": {"name": "eth1", "type": "iana-if-type:ethernetCsmacd", "mtu": 9000}, "subinterfaces": {"subinterface": [{"index": 0, "config": {"index": 0}}]}},
  {"name": "eth2", "config": {"name": "eth2", "type": "iana-if-type:ethernetCsmacd", "description": "lab bench, do not touch"}, "subinterfaces": {"subinterface": [{"index": 0, "config": {"index": 0}, "ipv4": {"addresses": {"address": [{"ip": "198.51.100.1", "config": {"ip": "198.51.100.1", "prefix-length": 24}}]}}}]}},
  {"name": "eth3", "config": {"name": "eth3", "type": "iana-if-type:ethernetCsmacd"}, "subinterfaces": {"subinterface": [{"index": 0, "config": {"index": 0}}]}}
 ]},
 "acl": {"acl-sets": {"acl-set": [
   {"name": "mgmt-only", "type": "openconfig-acl:ACL_IPV4", "config": {"name": "mgmt-only", "type": "openconfig-acl:ACL_IPV4"},
    "acl-entries": {"acl-entry": [{"sequence-id": 5, "config": {"sequence-id": 5}, "ipv4": {"config": {"source-address": "192.0.2.0/24", "dscp": 8}}, "actions": {"config": {"forwarding-action": "openconfig-acl:ACCEPT"}}}]}}]},
  "interfaces": {"interface": [{"id": "mgmt0", "config": {"id": "mgmt0"}, "interface-ref": {"config": {"interface": "mgmt0", "subinterface": 0}},
   "ingress-acl-sets": {"ingress-acl-set": [{"set-name": "mgmt-only", "type": "openconfig-acl:ACL_IPV4", "config": {"set-name": "mgmt-only", "type": "openconfig-acl:ACL_IPV4"}}]}}]}},
 "routing-policy": {"defined-sets": {"prefix-sets": {"prefix-set": [{"name": "bogons", "config": {"name": "bogons", "mode": "IPV4"},
   "prefixes": {"prefix": [{"ip-prefix": "192.0.2.0/24", "masklength-range": "24..32", "config": {"ip-prefix": "192.0.2.0/24", "masklength-range": "24..32"}}]}}]}},
  "policy-definitions": {"policy-definition": [{"name": "keep-out", "config": {"name": "keep-out"}, "statements": {"statement": [{"name": "1", "config": {"name": "1"}, "actions": {"config": {"policy-result": "REJECT_ROUTE"}}}]}}]}},
 "network-instances": {"network-instance": [{"name": "DEFAULT", "config": {"name": "DEFAULT", "type": "openconfig-network-instance-types:DEFAULT_INSTANCE"},
  "protocols": {"protocol": [{"identifier": "openconfig-policy-types:STATIC", "name": "DEFAULT", "config": {"identifier": "openconfig-policy-types:STATIC", "name": "DEFAULT"},
   "static-routes": {"static": [{"prefix": "192.0.2.128/25", "config": {"prefix": "192.0.2.128/25"}, "next-hops": {"next-hop": [{"index": "0", "config": {"index": "0", "next-hop": "192.0.2.1"}}]}}]}}]}}]}
}`

// New makes a device with these habits; it serves nothing yet, see [Device.Serve].
func New(h Habits) (*Device, error) {
	v, err := Parse([]byte(factory))
	if err != nil {
		return nil, err
	}
	sc, err := loadSchema()
	if err != nil {
		return nil, err
	}
	sc = &schema{Nodes: maps.Clone(sc.Nodes)}
	root, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("the factory's configuration is no object")
	}
	for _, m := range h.Lacks {
		delete(sc.Nodes, m)
		delete(root, m)
	}
	d := &Device{Habits: h, schema: sc, config: &Store{sc, root}}
	return d, sc.validate(&trail{data: root})
}

// Text is the whole configuration, as JSON.
func (d *Device) Text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.Text()
}

// Edit changes the configuration behind the driver's back.
func (d *Device) Edit(fn func(*Store) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := d.config.Clone()
	if err := fn(next); err != nil {
		return err
	}
	if err := d.schema.validate(&trail{data: next.root}); err != nil {
		return err
	}
	d.config = next
	return nil
}

// Snapshot is a copy of the configuration, for [Device.Restore].
func (d *Device) Snapshot() *Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.Clone()
}

// Restore makes s the configuration.
func (d *Device) Restore(s *Store) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config = s.Clone()
}

// Sets counts the Sets that changed something.
func (d *Device) Sets() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sets
}

// Change changes habits while it runs: it came back with other software.
func (d *Device) Change(fn func(*Habits)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn(&d.Habits)
	d.state = nil
}

// Down makes it answer nothing, or again.
func (d *Device) Down(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

// Sessions says of each neighbour's address the state of its BGP session (RFC
// 4271 §8.2.2); nil: all are ESTABLISHED.
func (d *Device) Sessions(fn func(neighbour string) string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.session, d.state = fn, nil
}

// Spoil changes what answers say, and cuts subscriptions before their end.
func (d *Device) Spoil(fn func(*gnmi.Notification), cut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spoil, d.cut = fn, cut
}

// Fail is asked for each Set with a change before ("before") and after it was
// carried out ("after"), with the configuration then; an error is the answer.
func (d *Device) Fail(fn func(when string, s *Store) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fn
}

// Serve answers on ln until stop is called; TLS with client certificates is for
// conf to say.
func (d *Device) Serve(ln net.Listener, conf *tls.Config) (stop func() error) {
	opts := []grpc.ServerOption{grpc.Creds(credentials.NewTLS(conf))}
	if d.MaxMessage > 0 {
		opts = append(opts, grpc.MaxRecvMsgSize(d.MaxMessage))
	}
	srv := grpc.NewServer(opts...)
	gnmi.RegisterGNMIServer(srv, d)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	return func() error {
		srv.Stop()
		err := <-done
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer != nil {
			d.timer.Stop()
		}
		if err != nil && !strings.Contains(err.Error(), "closed") {
			return err
		}
		return nil
	}
}
