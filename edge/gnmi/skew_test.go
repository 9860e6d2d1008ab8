package gnmi

import (
	"errors"
	"fmt"
	"testing"

	"github.com/openconfig/gnmi/proto/gnmi"
	"google.golang.org/grpc"

	"github.com/wardnet/wardnet/edge"
)

// TestVersionSkew: agents one protocol version older and newer are driven,
// fields we do not know being left out; others are refused before any push.
func TestVersionSkew(t *testing.T) {
	s := &scripted{}
	d := New(serve(t, func(g *grpc.Server) { gnmi.RegisterGNMIServer(g, s) }), Config{})
	answer := func(doc string) {
		s.get = &gnmi.GetResponse{Notification: []*gnmi.Notification{{Update: []*gnmi.Update{{
			Path: &gnmi.Path{}, Val: &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: []byte(doc)}},
		}}}}}
	}
	answer(`{"revision":7,"epoch":3,"tunnels":[]}`) // before agents told
	if st, err := d.State(t.Context()); err != nil || st.Revision != 7 || st.Protocol != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	answer(fmt.Sprintf(`{"revision":7,"epoch":3,"protocol":%d,"version":"9","mood":"fine","tunnels":[{"name":"x","up":true,"colour":1}]}`, edge.Protocol+1))
	if st, err := d.State(t.Context()); err != nil || st.Version != "9" || !st.Tunnels[0].Up {
		t.Errorf("%+v, %v", st, err)
	}
	answer(fmt.Sprintf(`{"protocol":%d,"version":"10"}`, edge.Protocol+2))
	var skew *edge.ProtocolError
	if _, err := d.Pending(t.Context()); !errors.As(err, &skew) || !errors.Is(err, edge.ErrRejected) || skew.Version != "10" {
		t.Errorf("%v, want a ProtocolError", err)
	}
	answer(`{"device":"e-1","revision":4,"config":{"device":"e-1","shield":true},"note":"x"}`)
	if run, err := d.Running(t.Context()); err != nil || run.Revision != 4 {
		t.Errorf("%+v, %v", run, err)
	}
}
