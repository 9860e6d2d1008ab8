package openconfig

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/gnmibox"
)

func writable() edge.Config {
	c := full()
	c.Circuits[0].Port, c.Segments[0].Port, c.Segments[1].Port = "eth3", "eth1.20", "eth1"
	return c
}

// Whatever somebody changes in what is ours is seen, and put right; the rest is
// nobody's business.
func TestDrift(t *testing.T) {
	t.Parallel()
	r := open(t, zoo["by the book"])
	c := writable()
	r.write(t, edge.Config{Device: c.Device}, c)
	good := r.Snapshot()
	entry := map[string]any{
		"sequence-id": json.Number("7"), "config": map[string]any{"sequence-id": json.Number("7")},
		"actions": map[string]any{"config": map[string]any{"forwarding-action": "openconfig-acl:ACCEPT"}},
	}
	for what, edit := range map[string]struct {
		want string // in the difference; "": none
		do   func(*gnmibox.Store) error
	}{
		"another's interface": {"", func(s *gnmibox.Store) error {
			return s.Set("interfaces/interface[name=mgmt0]/config/mtu", json.Number("1400"))
		}},
		"another's address": {"", func(s *gnmibox.Store) error {
			return s.Set("interfaces/interface[name=mgmt0]/subinterfaces/subinterface[index=0]/ipv4/addresses/address[ip=192.0.2.11]/config", map[string]any{"ip": "192.0.2.11", "prefix-length": json.Number("24")})
		}},
		"loopback gone":    {"- loopback", func(s *gnmibox.Store) error { return s.Delete("interfaces/interface[name=Loopback99]") }},
		"loopback address": {"loopback", func(s *gnmibox.Store) error { return s.Delete("interfaces/interface[name=Loopback99]/subinterfaces") }},
		"mtu": {"mtu 1600 → 1200", func(s *gnmibox.Store) error {
			return s.Set("interfaces/interface[name=eth3]/config/mtu", json.Number("1200"))
		}},
		"shut": {"circuit c-1-a", func(s *gnmibox.Store) error {
			return s.Set("interfaces/interface[name=eth3]/config/enabled", false)
		}},
		"mark": {"circuit c-1-a", func(s *gnmibox.Store) error { return s.Delete("interfaces/interface[name=eth3]/config/description") }},
		"circuit address gone": {"address 203.0.113.2/30 → none", func(s *gnmibox.Store) error {
			return s.Delete("interfaces/interface[name=eth3]/subinterfaces/subinterface[index=0]/ipv4")
		}},
		"VLAN": {"segment staff", func(s *gnmibox.Store) error {
			return s.Set("interfaces/interface[name=eth1]/subinterfaces/subinterface[index=20]/vlan/match/single-tagged/config/vlan-id", json.Number("21"))
		}},
		"segment gone": {"segment staff", func(s *gnmibox.Store) error {
			return errors.Join(s.Delete("interfaces/interface[name=eth1]/subinterfaces/subinterface[index=20]"), s.Delete("acl/interfaces/interface[id=eth1.20]"))
		}},
		"AS": {"asn 4200000007 → 65000", func(s *gnmibox.Store) error {
			return s.Set("network-instances/network-instance[name=DEFAULT]/protocols/protocol[identifier=BGP][name=BGP]/bgp/global/config/as", json.Number("65000"))
		}},
		"network": {"bgp", func(s *gnmibox.Store) error {
			return s.Delete("network-instances/network-instance[name=DEFAULT]/protocols/protocol[identifier=STATIC][name=DEFAULT]/static-routes/static[prefix=10.64.16.0/20]")
		}},
		"filter": {"accept", func(s *gnmibox.Store) error {
			return s.Delete("routing-policy/defined-sets/prefix-sets/prefix-set[name=wardnet-accept-4]/prefixes/prefix[ip-prefix=10.64.0.0/10][masklength-range=10..32]")
		}},
		"wider filter": {"accept", func(s *gnmibox.Store) error {
			return s.Set("routing-policy/defined-sets/prefix-sets/prefix-set[name=wardnet-accept-4]/prefixes/prefix[ip-prefix=0.0.0.0/0][masklength-range=0..32]/config", map[string]any{"ip-prefix": "0.0.0.0/0", "masklength-range": "0..32"})
		}},
		"other lengths": {"accept", func(s *gnmibox.Store) error {
			return s.Set("routing-policy/defined-sets/prefix-sets/prefix-set[name=wardnet-accept-4]/prefixes/prefix[ip-prefix=10.64.0.0/10][masklength-range=10..11]/config", map[string]any{"ip-prefix": "10.64.0.0/10", "masklength-range": "10..11"})
		}},
		"no filter": {"neighbour c-1-a--hub-1", func(s *gnmibox.Store) error {
			return s.Delete("routing-policy/policy-definitions/policy-definition[name=wardnet-in-c-1-a--hub-1]/statements/statement[name=preference]/conditions")
		}},
		"neighbour gone": {"neighbour c-1-a--hub-1", func(s *gnmibox.Store) error {
			return s.Delete("network-instances/network-instance[name=DEFAULT]/protocols/protocol[identifier=BGP][name=BGP]/bgp/neighbors/neighbor[neighbor-address=203.0.113.1]")
		}},
		"peer AS": {"asn 4200000001 → 65001", func(s *gnmibox.Store) error {
			return s.Set("network-instances/network-instance[name=DEFAULT]/protocols/protocol[identifier=BGP][name=BGP]/bgp/neighbors/neighbor[neighbor-address=203.0.113.1]/config/peer-as", json.Number("65001"))
		}},
		"preference": {"preference 200 → 7", func(s *gnmibox.Store) error {
			return s.Set("routing-policy/policy-definitions/policy-definition[name=wardnet-in-c-1-a--hub-1]/statements/statement[name=preference]/actions/bgp-actions/config/set-local-pref", json.Number("7"))
		}},
		"BFD": {"neighbour c-1-a--hub-1", func(s *gnmibox.Store) error {
			return s.Set("network-instances/network-instance[name=DEFAULT]/protocols/protocol[identifier=BGP][name=BGP]/bgp/neighbors/neighbor[neighbor-address=203.0.113.1]/enable-bfd/config/enabled", false)
		}},
		"BFD interval": {"neighbour c-1-a--hub-1", func(s *gnmibox.Store) error {
			return s.Set("bfd/interfaces/interface[id=eth3]/config/desired-minimum-tx-interval", json.Number("900000"))
		}},
		"export policy": {"neighbour c-1-a--hub-1", func(s *gnmibox.Store) error {
			return s.Delete("network-instances/network-instance[name=DEFAULT]/protocols/protocol[identifier=BGP][name=BGP]/bgp/neighbors/neighbor[neighbor-address=203.0.113.1]/afi-safis/afi-safi[afi-safi-name=IPV4_UNICAST]/apply-policy/config/export-policy")
		}},
		"a rule's entry": {"rule p-mail/staff", func(s *gnmibox.Store) error {
			return s.Delete("acl/acl-sets/acl-set[name=wardnet-in-staff-4][type=ACL_IPV4]/acl-entries/acl-entry[sequence-id=10]")
		}},
		"an entry for all": {"drift:wardnet-in-staff-4#7", func(s *gnmibox.Store) error {
			return s.Set("acl/acl-sets/acl-set[name=wardnet-in-staff-4][type=ACL_IPV4]/acl-entries/acl-entry[sequence-id=7]", entry)
		}},
		"the denial": {"drift:", func(s *gnmibox.Store) error {
			return s.Set("acl/acl-sets/acl-set[name=wardnet-in-staff-4][type=ACL_IPV4]/acl-entries/acl-entry[sequence-id=50]/actions/config/forwarding-action", "ACCEPT")
		}},
		"one more match": {"drift:wardnet-in-staff-4#10", func(s *gnmibox.Store) error {
			return s.Set("acl/acl-sets/acl-set[name=wardnet-in-staff-4][type=ACL_IPV4]/acl-entries/acl-entry[sequence-id=10]/ipv4/config/dscp", json.Number("46"))
		}},
		"the model's default": {"", func(s *gnmibox.Store) error {
			return s.Set("acl/acl-sets/acl-set[name=wardnet-in-staff-4][type=ACL_IPV4]/acl-entries/acl-entry[sequence-id=10]/actions/config/log-action", "LOG_NONE")
		}},
		"unbound": {"drift:/acl/interfaces", func(s *gnmibox.Store) error { return s.Delete("acl/interfaces/interface[id=eth1.20]/ingress-acl-sets") }},
		"another's binding beside": {"", func(s *gnmibox.Store) error {
			return s.Set("acl/interfaces/interface[id=eth1.20]/ingress-acl-sets/ingress-acl-set[set-name=mgmt-only][type=ACL_IPV4]/config", map[string]any{"set-name": "mgmt-only", "type": "ACL_IPV4"})
		}},
	} {
		t.Run(what, func(t *testing.T) {
			r.edit(t, func(s *gnmibox.Store) { must(t, edit.do(s)) })
			got, err := r.box.Read(t.Context(), c)
			must(t, err)
			change := edge.Diff(c, got).String()
			if !strings.Contains(change, edit.want) || (edit.want == "") != (change == "") {
				t.Errorf("the difference is\n%s\nwant %q in it", change, edit.want)
			}
			must(t, r.box.Write(t.Context(), got, c))
			r.holds(t, c)
			r.Restore(good)
		})
	}
}

// What is on the device and not ours is never overwritten.
func TestConflicts(t *testing.T) {
	t.Parallel()
	for what, edit := range map[string]func(*gnmibox.Store) error{
		"/interfaces/interface[name=Loopback99]": func(s *gnmibox.Store) error {
			return s.Set("interfaces/interface[name=Loopback99]/config", map[string]any{"name": "Loopback99", "type": "iana-if-type:softwareLoopback", "description": "another's"})
		},
		"BGP runs already as AS 65000": func(s *gnmibox.Store) error {
			p := "network-instances/network-instance[name=DEFAULT]/protocols/protocol[identifier=BGP][name=BGP]"
			return errors.Join(s.Set(p+"/config", map[string]any{"identifier": "BGP", "name": "BGP"}),
				s.Set(p+"/bgp/global/config/as", json.Number("65000")))
		},
		"neighbor[neighbor-address=203.0.113.1]": func(s *gnmibox.Store) error {
			p := "network-instances/network-instance[name=DEFAULT]/protocols/protocol[identifier=BGP][name=BGP]"
			return errors.Join(s.Set(p+"/config", map[string]any{"identifier": "BGP", "name": "BGP"}),
				s.Set(p+"/bgp/global/config/as", json.Number("4200000007")),
				s.Set(p+"/bgp/neighbors/neighbor[neighbor-address=203.0.113.1]/config", map[string]any{"neighbor-address": "203.0.113.1", "description": "transit"}))
		},
		"static[prefix=10.64.16.0/20]": func(s *gnmibox.Store) error {
			return s.Set("network-instances/network-instance[name=DEFAULT]/protocols/protocol[identifier=STATIC][name=DEFAULT]/static-routes/static[prefix=10.64.16.0/20]/config", map[string]any{"prefix": "10.64.16.0/20"})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := open(t, zoo["by the book"])
			r.edit(t, func(s *gnmibox.Store) { must(t, edit(s)) })
			before := r.Text()
			none := edge.Config{Device: "e-1"}
			got, err := r.box.Read(t.Context(), none)
			must(t, err)
			if !edge.Diff(got, none).Empty() {
				t.Errorf("read what is not ours:\n%s", edge.Diff(none, got))
			}
			err = r.box.Write(t.Context(), got, writable())
			if !errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), what) {
				t.Errorf("%v, want a rejection that names %s", err, what)
			}
			if r.Text() != before {
				t.Error("the device was changed")
			}
		})
	}
}

// The device refuses, or seems to.
func TestSetFails(t *testing.T) {
	t.Parallel()
	none := edge.Config{Device: "e-1"}
	for name, c := range map[string]struct {
		when         string
		err          error
		partial      bool
		is           error // nil and done: success
		done         bool
		says, saysNo string
	}{
		"refused":          {when: "before", err: status.Error(codes.InvalidArgument, "TCAM is full"), is: edge.ErrRejected, says: "TCAM is full"},
		"not allowed":      {when: "before", err: status.Error(codes.PermissionDenied, "read-only user"), is: edge.ErrRejected, says: "read-only user"},
		"aborted":          {when: "before", err: status.Error(codes.Aborted, "candidate is locked"), is: edge.ErrRejected, says: "candidate is locked"},
		"gone":             {when: "before", err: status.Error(codes.Unavailable, "rebooting"), is: edge.ErrUnreachable, says: "rebooting"},
		"reply lost":       {when: "after", err: status.Error(codes.Unavailable, "connection reset"), done: true},
		"refused, yet all": {when: "after", err: status.Error(codes.Internal, "commit hook failed"), done: true},
		"refused in part":  {when: "after", err: status.Error(codes.Aborted, "line card 2 failed"), partial: true, says: "holds a part of the change"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t, zoo["no Commit Confirmed"])
			before := r.Text()
			r.Fail(func(when string, s *gnmibox.Store) error {
				if when != c.when {
					return nil
				}
				if c.partial {
					must(t, s.Delete("acl/interfaces/interface[id=eth1.20]"))
				}
				return c.err
			})
			err := r.box.Write(t.Context(), none, writable())
			r.Fail(nil)
			if c.done {
				must(t, err)
				r.holds(t, writable())
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v, want %v saying %q", err, c.is, c.says)
			}
			if c.partial {
				if errors.Is(err, edge.ErrRejected) {
					t.Errorf("%v promises that the device is as before", err)
				}
				got, err := r.box.Read(t.Context(), none)
				must(t, err)
				must(t, r.box.Write(t.Context(), got, writable()))
				r.holds(t, writable())
			} else if r.Text() != before {
				t.Error("the device changed")
			}
		})
	}
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	val := func(s string) *gnmi.TypedValue {
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: []byte(s)}}
	}
	only := func(first string, v func(*gnmi.Notification)) func(*gnmi.Notification) {
		return func(n *gnmi.Notification) {
			if len(n.GetUpdate()) > 0 && n.Update[0].GetPath().GetElem()[0].GetName() == first {
				v(n)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil func(*gnmi.Notification)
		cut   bool
		says  []string
	}{
		"not JSON": {spoil: only("interfaces", func(n *gnmi.Notification) { n.Update[0].Val = val(`% Invalid input`) }), says: []string{"/interfaces", "% Invalid input"}},
		"truncated": {spoil: only("acl", func(n *gnmi.Notification) {
			b := n.Update[0].Val.GetJsonIetfVal()
			n.Update[0].Val = val(string(b[:len(b)-7]))
		}), says: []string{"/acl", "not JSON"}},
		"two values": {spoil: only("acl", func(n *gnmi.Notification) { n.Update[0].Val = val(`{} {}`) }), says: []string{"/acl", "more than one"}},
		"wrong type": {spoil: only("interfaces", func(n *gnmi.Notification) {
			n.Update[0].Val = val(`{"interface":[{"name":"eth9","config":{"mtu":"big"}}]}`)
		}), says: []string{"eth9", "big"}},
		"a list, no list": {spoil: only("interfaces", func(n *gnmi.Notification) { n.Update[0].Val = val(`{"interface":{"name":"eth9"}}`) }), says: []string{"/interfaces/interface", "no array"}},
		"no key":          {spoil: only("interfaces", func(n *gnmi.Notification) { n.Update[0].Val = val(`{"interface":[{"config":{"mtu":1500}}]}`) }), says: []string{"/interfaces/interface", "without its key name"}},
		"no value":        {spoil: only("acl", func(n *gnmi.Notification) { n.Update[0].Val = nil }), says: []string{"/acl", "without a value"}},
		"a scalar":        {spoil: only("interfaces", func(n *gnmi.Notification) { n.Update[0].Val = val(`"up"`) }), says: []string{"/interfaces", "up"}},
		"cut short":       {cut: true, says: []string{"before all was told"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := zoo["JSON_IETF only"]
			h.NoGet = c.cut
			r := open(t, h)
			want := writable()
			r.write(t, edge.Config{Device: "e-1"}, want)
			before := r.Text()
			r.Spoil(c.spoil, c.cut)
			_, err := r.box.Read(t.Context(), want)
			for _, s := range c.says {
				if err == nil || !strings.Contains(err.Error(), s) {
					t.Errorf("Read: %v, want %q in it", err, s)
				}
			}
			if err := r.box.Write(t.Context(), want, edge.Config{Device: "e-1"}); err == nil {
				t.Error("Write went on from what could not be read")
			}
			if r.Text() != before {
				t.Error("the device was changed")
			}
			r.Spoil(nil, false)
			r.holds(t, want)
		})
	}
}

func TestSerial(t *testing.T) {
	t.Parallel()
	h := gnmibox.Habits{Serial: "SN-1"}
	d := newDevice(t, h)
	if _, err := d.open(t, Config{Serial: "SN-2"}); !errors.Is(err, foreign.ErrOtherDevice) || !strings.Contains(err.Error(), `"SN-1"`) {
		t.Errorf("%v, want that another device answers", err)
	}
	r := open(t, h)
	r.Change(func(h *gnmibox.Habits) { h.Serial = "SN-3" }) // swapped while we were connected
	before := r.Text()
	if err := r.box.Write(t.Context(), edge.Config{}, writable()); !errors.Is(err, foreign.ErrOtherDevice) || r.Text() != before {
		t.Errorf("%v, want that another device answers and nothing is changed", err)
	}
	d = newDevice(t, gnmibox.Habits{})
	if _, err := d.open(t, Config{Serial: "SN-9"}); err != nil {
		t.Errorf("a device that tells no serial number: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := ln.Addr().String()
	must(t, ln.Close())
	conn, err := Dial(addr, &tls.Config{ServerName: "device"}, nil, Quirks{})
	must(t, err)
	defer conn.Close()
	if _, err := Open(t.Context(), conn, Config{Timeout: time.Second}); !errors.Is(err, edge.ErrUnreachable) {
		t.Errorf("%v, want ErrUnreachable", err)
	}
	if _, err := Dial(addr, nil, nil, Quirks{}); err == nil {
		t.Error("dialled without TLS")
	}
	// A client whose certificate the device does not know.
	d := newDevice(t, gnmibox.Habits{})
	addr, creds := d.serve(t)
	creds.Certificates = nil
	conn2, err := Dial(addr, creds, nil, Quirks{})
	must(t, err)
	defer conn2.Close()
	if _, err := Open(t.Context(), conn2, Config{Timeout: time.Second}); !errors.Is(err, edge.ErrUnreachable) {
		t.Errorf("%v, want ErrUnreachable", err)
	}
}

func TestMessageSizes(t *testing.T) {
	t.Parallel()
	big := writable()
	for i := range 400 {
		r := big.Rules[0]
		r.Permit = inventory.PermitID(fmt.Sprint("p-", i))
		big.Rules = append(big.Rules, r)
	}
	none := edge.Config{Device: "e-1"}
	r := open(t, gnmibox.Habits{MaxMessage: 200_000})
	before := r.Text()
	err := r.box.Write(t.Context(), none, big)
	if !errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), "raise the device's limit") || r.Text() != before {
		t.Errorf("%v, want a rejection with what to do", err)
	}
	d := newDevice(t, gnmibox.Habits{})
	box, err := d.open(t, Config{Quirks: Quirks{MaxMessage: 200_000}})
	must(t, err)
	if err := box.Write(t.Context(), none, big); !errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), "max_message") {
		t.Errorf("%v, want a rejection that names the quirk", err)
	}
	(&rig{d, box}).write(t, none, writable())
	r = open(t, gnmibox.Habits{})
	r.write(t, none, big) // some MB, more than gRPC takes unasked
}
