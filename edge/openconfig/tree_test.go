package openconfig

import (
	"strings"
	"testing"

	"github.com/openconfig/gnmi/proto/gnmi"
	"google.golang.org/protobuf/proto"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/labs/gnmibox"
)

// Whatever a device sends, reading ends in a config or an error that says
// what came; and what is read as held is what was sent.
func FuzzReadBack(f *testing.F) {
	for _, form := range []string{"", "leaves", "mixed", "wrapped"} {
		d := newDevice(f, gnmibox.Habits{Form: form})
		w := render(writable(), Quirks{})
		tree := &node{}
		req, err := request(tree, items{}, settle(w.items, tree), Quirks{}.withDefaults(), wire{encoding: gnmi.Encoding_JSON_IETF}, "openconfig")
		if err != nil {
			f.Fatal(err)
		}
		if _, err := d.Set(f.Context(), req); err != nil {
			f.Fatal(err)
		}
		ask := &gnmi.GetRequest{Type: gnmi.GetRequest_CONFIG, Encoding: gnmi.Encoding_JSON_IETF}
		for _, name := range []string{"interfaces", "acl", "bfd", "routing-policy", "network-instances"} {
			ask.Path = append(ask.Path, &gnmi.Path{Origin: "openconfig", Elem: []*gnmi.PathElem{{Name: name}}})
		}
		resp, err := d.Get(f.Context(), ask)
		if err != nil {
			f.Fatal(err)
		}
		b, err := proto.Marshal(resp)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "")
	}
	for _, blob := range []string{`{"interface":[]}`, `{"openconfig-interfaces:interfaces":{"interface":[{"name":"eth1","config":null}]}}`, `[{"name":"x"}]`, `null`, `"x"`, `{"interface":[{"name":7}]}`} {
		f.Add([]byte{}, blob)
	}
	f.Fuzz(func(t *testing.T, b []byte, blob string) {
		resp := &gnmi.GetResponse{}
		if proto.Unmarshal(b, resp) != nil {
			return
		}
		if blob != "" {
			resp.Notification = append(resp.Notification, &gnmi.Notification{Update: []*gnmi.Update{{
				Path: &gnmi.Path{Elem: []*gnmi.PathElem{{Name: "interfaces"}}},
				Val:  &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: []byte(blob)}},
			}}})
		}
		tree := &node{}
		if err := tree.add(resp.GetNotification()); err != nil {
			if !strings.Contains(err.Error(), "cannot be read") {
				t.Errorf("%v does not say what came", err)
			}
			return
		}
		for _, c := range []edge.Config{{}, writable()} {
			got, err := readBack(tree, Quirks{}, c)
			if err != nil {
				continue
			}
			// A Write from here must be a request, whatever was there.
			have, err := owned(tree, Quirks{}, got, c)
			if err != nil {
				continue
			}
			w := render(c, Quirks{})
			if _, err := request(tree, have, settle(w.items, tree), Quirks{}.withDefaults(), wire{}, ""); err != nil {
				t.Errorf("no request from what was read: %v", err)
			}
		}
	})
}

func TestQuirksAreData(t *testing.T) {
	if len(Platforms()) < 2 {
		t.Errorf("platforms %q", Platforms())
	}
	q, err := Platform("cisco-iosxr")
	if err != nil || q.MTUOverhead != 14 || q.NotRun == "" {
		t.Errorf("%+v, %v", q, err)
	}
	if _, err := Platform("toaster"); err == nil || !strings.Contains(err.Error(), "arista-eos") {
		t.Errorf("%v, want the known platforms", err)
	}
	_, err = ParseQuirks([]byte("a: {origin: ios, read: slowly}\nb: {mtu_overhead: -1}"))
	for _, s := range []string{`"ios"`, `"slowly"`, `platform "b"`, "negative"} {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("%v, want %s in it", err, s)
		}
	}
	if _, err := ParseQuirks([]byte("a: {orign: none}")); err == nil {
		t.Error("an unknown quirk was taken")
	}
}

// The platform's own names and counting are used in both directions.
func TestQuirksTakeEffect(t *testing.T) {
	t.Parallel()
	d := newDevice(t, gnmibox.Habits{})
	d.edit(t, func(s *gnmibox.Store) {
		must(t, s.Delete("network-instances/network-instance[name=DEFAULT]"))
		must(t, s.Set("network-instances/network-instance[name=global]/config", map[string]any{"name": "global", "type": "openconfig-network-instance-types:DEFAULT_INSTANCE"}))
	})
	box, err := d.open(t, Config{Quirks: Quirks{Loopback: "lo7", NetworkInstance: "global", BGP: "main", Static: "DEFAULT", MTUOverhead: 14, Origin: "openconfig", Encoding: "json_ietf", Read: "get", Names: "modules", Commit: "emulated"}})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{d, box}
	c := writable()
	r.write(t, edge.Config{Device: "e-1"}, c)
	for _, s := range []string{`"lo7"`, `"main"`, `"mtu": 1614`} {
		if !strings.Contains(r.Text(), s) {
			t.Errorf("%s is not on the device", s)
		}
	}
}
