package gnmibox

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"github.com/openconfig/gnmi/proto/gnmi_ext"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func device(t *testing.T, h Habits) *Device {
	t.Helper()
	d, err := New(h)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What does not fit the models is refused, and changes nothing.
func TestModelsAreEnforced(t *testing.T) {
	const eth = "interfaces/interface[name=eth3]/"
	for what, tt := range map[string]struct {
		path string
		v    any
		want string
	}{
		"a node of nobody's": {eth + "config", map[string]any{"colour": "red"}, `the model has no "colour"`},
		"a wrong type":       {eth + "config/mtu", "1500", "is no uint16"},
		"out of range":       {eth + "config/mtu", json.Number("70000"), "is out of range"},
		"no such identity":   {eth + "config/type", "iana-if-type:smokeSignal", "is no identity"},
		"not its pattern":    {eth + "subinterfaces/subinterface[index=0]/ipv4/addresses/address[ip=10.0.0.1]/config", map[string]any{"ip": "10.0.0.300"}, "ip"},
		"another key":        {eth + "config/name", "eth4", "key name is eth3, its config says eth4"},
		"a dangling name":    {"acl/interfaces/interface[id=eth9]/interface-ref/config/interface", "eth9", "refers to nothing"},
	} {
		t.Run(what, func(t *testing.T) {
			d := device(t, Habits{})
			before := d.Text()
			err := d.Edit(func(s *Store) error { return s.Set(tt.path, tt.v) })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if d.Text() != before {
				t.Error("it changed all the same")
			}
		})
	}
}

func mtu(value string, ext ...*gnmi_ext.Extension) *gnmi.SetRequest {
	return &gnmi.SetRequest{Extension: ext, Update: []*gnmi.Update{{
		Path: &gnmi.Path{Origin: "openconfig", Elem: elems("interfaces/interface[name=eth3]/config/mtu")},
		Val:  &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: []byte(value)}},
	}}}
}

// A commit on trial goes back at its deadline; a device without the extension
// ignores it.
func TestCommitConfirmed(t *testing.T) {
	trial := &gnmi_ext.Extension{Ext: &gnmi_ext.Extension_Commit{Commit: &gnmi_ext.Commit{Id: "c-1", Action: &gnmi_ext.Commit_Commit{
		Commit: &gnmi_ext.CommitRequest{RollbackDuration: durationpb.New(time.Minute)},
	}}}}
	for _, has := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			d := device(t, Habits{Commit: has})
			before := d.Text()
			if _, err := d.Set(t.Context(), mtu("1400", trial)); err != nil {
				t.Fatal(err)
			}
			after := d.Text()
			if after == before || d.Sets() != 1 {
				t.Fatalf("%d Sets, changed %t", d.Sets(), after != before)
			}
			if _, err := d.Set(t.Context(), mtu("1300")); has != (status.Code(err) == codes.FailedPrecondition) {
				t.Errorf("beside a trial: %v", err)
			}
			time.Sleep(time.Minute + time.Second)
			synctest.Wait()
			if back := d.Text() == before; back != has {
				t.Errorf("returned: %t, it has Commit Confirmed: %t", back, has)
			}
		})
	}
}

// It takes what it takes, and nothing else.
func TestHabits(t *testing.T) {
	ask := &gnmi.GetRequest{Encoding: gnmi.Encoding_JSON_IETF, Path: []*gnmi.Path{{Origin: "openconfig", Elem: elems("interfaces")}}}
	for what, tt := range map[string]struct {
		h    Habits
		want codes.Code
	}{
		"by the book": {Habits{}, codes.OK}, "no Get": {Habits{NoGet: true}, codes.Unimplemented},
		"JSON only": {Habits{Encoding: "JSON"}, codes.Unimplemented}, "no origin": {Habits{EmptyOrigin: true}, codes.InvalidArgument},
		"a target": {Habits{Target: "leaf-1"}, codes.InvalidArgument}, "no types": {Habits{AnyType: true}, codes.OK},
	} {
		if _, err := device(t, tt.h).Get(t.Context(), ask); status.Code(err) != tt.want {
			t.Errorf("%s: %v, want %s", what, err, tt.want)
		}
	}
	d := device(t, Habits{})
	d.Down(true)
	if _, err := d.Get(t.Context(), ask); status.Code(err) != codes.Unavailable {
		t.Errorf("down: %v", err)
	}
}
