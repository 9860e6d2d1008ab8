package agent

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"github.com/openconfig/gnmi/proto/gnmi_ext"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/disk"
)

// rig is an agent with a gNMI client in memory.
type rig struct {
	signer
	host  *ram
	agent *Agent
	gnmi.GNMIClient
}

func newRig(t *testing.T) *rig {
	r := &rig{signer: newSigner(t), host: &ram{}}
	r.agent = newAgent(t, r.signer, r.host, disk.OS{}, t.TempDir())
	ln := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	r.agent.Register(srv)
	go func() { _ = srv.Serve(ln) }()
	cc, err := grpc.NewClient("passthrough:///agent",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cc.Close()
		srv.Stop()
	})
	r.GNMIClient = gnmi.NewGNMIClient(cc)
	return r
}

func replaceDoc(t *testing.T, doc any) []*gnmi.Update {
	t.Helper()
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return []*gnmi.Update{{
		Path: &gnmi.Path{Origin: OriginConfig},
		Val:  &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: b}},
	}}
}

func ext(c *gnmi_ext.Commit) []*gnmi_ext.Extension {
	return []*gnmi_ext.Extension{{Ext: &gnmi_ext.Extension_Commit{Commit: c}}}
}

func start(id string) []*gnmi_ext.Extension {
	return ext(&gnmi_ext.Commit{Id: id, Action: &gnmi_ext.Commit_Commit{Commit: &gnmi_ext.CommitRequest{RollbackDuration: durationpb.New(time.Minute)}}})
}

func TestSetRefusals(t *testing.T) {
	r := newRig(t)
	good := r.doc(t, 5)
	var loose map[string]any
	b, _ := json.Marshal(good)
	_ = json.Unmarshal(b, &loose)
	loose["surprise"] = 1
	var deep map[string]any
	_ = json.Unmarshal(b, &deep)
	deep["config"].(map[string]any)["shield"] = true
	part := replaceDoc(t, good)
	part[0].Path.Elem = []*gnmi.PathElem{{Name: "config"}}
	creds := replaceDoc(t, edge.Credentials{Epoch: 1})
	creds[0].Path.Origin = OriginCredentials
	keep(t, r.agent, "five", good)
	for name, tt := range map[string]struct {
		req  *gnmi.SetRequest
		want codes.Code
		text string
	}{
		"no commit extension":  {&gnmi.SetRequest{Replace: replaceDoc(t, good)}, codes.InvalidArgument, "Commit extension"},
		"update":               {&gnmi.SetRequest{Update: replaceDoc(t, good), Extension: start("a")}, codes.InvalidArgument, "replaced"},
		"nothing":              {&gnmi.SetRequest{Extension: start("a")}, codes.InvalidArgument, "exactly one"},
		"delete":               {&gnmi.SetRequest{Delete: []*gnmi.Path{{Origin: OriginConfig}}, Extension: start("a")}, codes.InvalidArgument, "exactly one"},
		"a part":               {&gnmi.SetRequest{Replace: part, Extension: start("a")}, codes.InvalidArgument, "whole documents"},
		"unknown field":        {&gnmi.SetRequest{Replace: replaceDoc(t, loose), Extension: start("a")}, codes.InvalidArgument, `"surprise"), and this agent speaks protocol 1; upgrade the agent`},
		"unknown config field": {&gnmi.SetRequest{Replace: replaceDoc(t, deep), Extension: start("a")}, codes.InvalidArgument, "upgrade the agent"},
		"older revision":       {&gnmi.SetRequest{Replace: replaceDoc(t, r.doc(t, 4)), Extension: start("a")}, codes.FailedPrecondition, "older than confirmed revision 5"},
		"confirm of nothing":   {&gnmi.SetRequest{Extension: ext(&gnmi_ext.Commit{Id: "x", Action: &gnmi_ext.Commit_Confirm{}})}, codes.FailedPrecondition, `"x"`},
		"confirm with content": {&gnmi.SetRequest{Replace: replaceDoc(t, good), Extension: ext(&gnmi_ext.Commit{Id: "x", Action: &gnmi_ext.Commit_Confirm{}})}, codes.InvalidArgument, "no operation"},
		"no id":                {&gnmi.SetRequest{Replace: replaceDoc(t, good), Extension: start("")}, codes.InvalidArgument, "id"},
		"credentials, commit":  {&gnmi.SetRequest{Replace: creds, Extension: start("a")}, codes.InvalidArgument, "never rolled back"},
		"other extension":      {&gnmi.SetRequest{Replace: replaceDoc(t, good), Extension: []*gnmi_ext.Extension{{Ext: &gnmi_ext.Extension_MasterArbitration{}}}}, codes.Unimplemented, "MasterArbitration"},
	} {
		_, err := r.Set(t.Context(), tt.req)
		if s := status.Convert(err); s.Code() != tt.want || !strings.Contains(s.Message(), tt.text) {
			t.Errorf("%s: %v, want %s with %q", name, err, tt.want, tt.text)
		}
	}
	if _, err := r.Set(t.Context(), &gnmi.SetRequest{Replace: replaceDoc(t, r.doc(t, 6)), Extension: start("six")}); err != nil {
		t.Fatal(err)
	}
	_, err := r.Set(t.Context(), &gnmi.SetRequest{Replace: replaceDoc(t, r.doc(t, 7)), Extension: start("seven")})
	if s := status.Convert(err); s.Code() != codes.FailedPrecondition || !strings.Contains(s.Message(), `"six"`) {
		t.Errorf("second commit: %v, want FailedPrecondition that names six", err)
	}
	if _, err := r.Set(t.Context(), &gnmi.SetRequest{Extension: ext(&gnmi_ext.Commit{Id: "six", Action: &gnmi_ext.Commit_Cancel{}})}); err != nil {
		t.Fatal(err)
	}
	if got := r.agent.Running().Revision; got != 5 {
		t.Errorf("revision %d after the cancel, want 5", got)
	}
}

func TestGetLeaves(t *testing.T) {
	r := newRig(t)
	keep(t, r.agent, "one", r.doc(t, 1))
	path := func(origin string, elems ...*gnmi.PathElem) *gnmi.Path {
		return &gnmi.Path{Origin: origin, Elem: elems}
	}
	elem := func(name string, kv ...string) *gnmi.PathElem {
		e := &gnmi.PathElem{Name: name, Key: map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			e.Key[kv[i]] = kv[i+1]
		}
		return e
	}
	for name, tt := range map[string]struct {
		path *gnmi.Path
		want int
	}{
		"all of openconfig":    {path(""), 3*7 + 2*2},
		"all interfaces":       {path(OriginOpenConfig, elem("interfaces"), elem("interface", "name", "*"), elem("state"), elem("oper-status")), 3},
		"missing key":          {path(OriginOpenConfig, elem("interfaces"), elem("interface"), elem("state"), elem("oper-status")), 3},
		"one interface":        {path(OriginOpenConfig, elem("interfaces"), elem("interface", "name", "c-1--hub-2")), 7},
		"no such interface":    {path(OriginOpenConfig, elem("interfaces"), elem("interface", "name", "c-9")), 0},
		"wildcard element":     {path(OriginOpenConfig, elem("interfaces"), elem("*"), elem("state"), elem("oper-status")), 3},
		"one neighbour":        {path(OriginOpenConfig, elem("network-instances"), elem("network-instance"), elem("protocols"), elem("protocol"), elem("bgp"), elem("neighbors"), elem("neighbor", "neighbor-address", "172.18.1.0")), 1},
		"BFD":                  {path(OriginOpenConfig, elem("bfd"), elem("interfaces"), elem("interface", "id", "c-1--hub-1")), 1},
		"probes of one tunnel": {path(OriginState, elem("tunnels"), elem("tunnel", "name", "c-1--hub-1")), 3},
		"device":               {path(OriginState, elem("device"), elem("state")), 6},
	} {
		resp, err := r.Get(t.Context(), &gnmi.GetRequest{Path: []*gnmi.Path{tt.path}, Encoding: gnmi.Encoding_PROTO})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := len(resp.Notification[0].Update); got != tt.want {
			t.Errorf("%s: %d leaves, want %d: %v", name, got, tt.want, resp.Notification[0].Update)
		}
	}
	_, err := r.Get(t.Context(), &gnmi.GetRequest{Path: []*gnmi.Path{path(OriginOpenConfig, elem("system"))}})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("unknown path: %v", err)
	}
}

// stream subscribes and gives each update as "last path element[object] = value".
func (r *rig) stream(t *testing.T, list *gnmi.SubscriptionList) func() []string {
	t.Helper()
	s, err := r.Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&gnmi.SubscribeRequest{Request: &gnmi.SubscribeRequest_Subscribe{Subscribe: list}}); err != nil {
		t.Fatal(err)
	}
	return func() []string {
		t.Helper()
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetSyncResponse() {
			return []string{"sync"}
		}
		var got []string
		text := func(p *gnmi.Path) string {
			last, key := p.Elem[len(p.Elem)-1].Name, ""
			for _, e := range p.Elem {
				for k, v := range e.Key {
					if slices.Contains([]string{"name", "id", "neighbor-address"}, k) && v != "BGP" && v != "default" {
						key = v
					}
				}
			}
			return last + "[" + key + "]"
		}
		for _, u := range m.GetUpdate().GetUpdate() {
			got = append(got, text(u.Path)+"="+u.Val.GetStringVal())
		}
		for _, p := range m.GetUpdate().GetDelete() {
			got = append(got, "delete "+text(p))
		}
		slices.Sort(got)
		return got
	}
}

func sub(mode gnmi.SubscriptionMode, origin string, names ...string) *gnmi.Subscription {
	p := &gnmi.Path{Origin: origin}
	for _, n := range names {
		p.Elem = append(p.Elem, &gnmi.PathElem{Name: n})
	}
	return &gnmi.Subscription{Path: p, Mode: mode, SampleInterval: uint64(time.Second)}
}

func TestSubscribeOnChange(t *testing.T) {
	r := newRig(t)
	keep(t, r.agent, "one", r.doc(t, 1))
	next := r.stream(t, &gnmi.SubscriptionList{Subscription: []*gnmi.Subscription{
		sub(gnmi.SubscriptionMode_ON_CHANGE, OriginOpenConfig, "interfaces", "interface", "state", "oper-status"),
	}})
	expect := func(want ...string) {
		t.Helper()
		if got := next(); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	expect("oper-status[c-1--hub-1]=UP", "oper-status[c-1--hub-2]=UP", "oper-status[c-1]=UP")
	expect("sync")
	r.host.setDown("c-1--hub-2")
	r.agent.wake()
	expect("oper-status[c-1--hub-2]=DOWN")
	// A config without the second tunnel: its leaf is deleted.
	d := r.doc(t, 2, func(c *edge.Config) {
		c.Tunnels, c.BGP.Neighbours, c.Contract.BFD = c.Tunnels[:1], c.BGP.Neighbours[:1], c.Contract.BFD[:1]
	})
	if err := r.agent.Try(t.Context(), "two", d, time.Minute); err != nil {
		t.Fatal(err)
	}
	expect("delete oper-status[c-1--hub-2]")
}

func TestSubscribeSampleAndTargetDefined(t *testing.T) {
	r := newRig(t)
	keep(t, r.agent, "one", r.doc(t, 1))
	next := r.stream(t, &gnmi.SubscriptionList{Subscription: []*gnmi.Subscription{
		sub(gnmi.SubscriptionMode_SAMPLE, OriginState, "tunnels", "tunnel", "state", "latency-ms"),
	}})
	want := []string{"latency-ms[c-1--hub-1]=", "latency-ms[c-1--hub-2]="}
	for i, w := range [][]string{want, {"sync"}, want, want} { // unchanged values are sampled again
		if got := next(); !slices.Equal(got, w) {
			t.Fatalf("message %d: %v, want %v", i, got, w)
		}
	}
	next = r.stream(t, &gnmi.SubscriptionList{UpdatesOnly: true, Subscription: []*gnmi.Subscription{
		sub(gnmi.SubscriptionMode_TARGET_DEFINED, OriginOpenConfig, "interfaces"),
	}})
	if got := next(); !slices.Equal(got, []string{"sync"}) {
		t.Fatalf("updates only: %v", got)
	}
}

func TestSubscribeOnceAndRefusals(t *testing.T) {
	r := newRig(t)
	keep(t, r.agent, "one", r.doc(t, 1))
	next := r.stream(t, &gnmi.SubscriptionList{Mode: gnmi.SubscriptionList_ONCE, Subscription: []*gnmi.Subscription{
		sub(gnmi.SubscriptionMode_TARGET_DEFINED, OriginState, "device"),
	}})
	if got := next(); !slices.Contains(got, "config-hash[]="+r.doc(t, 1).Hash) || len(got) != 6 {
		t.Errorf("once: %v", got)
	}
	short := sub(gnmi.SubscriptionMode_SAMPLE, OriginOpenConfig, "interfaces")
	short.SampleInterval = 1
	for name, tt := range map[string]struct {
		list *gnmi.SubscriptionList
		want codes.Code
	}{
		"poll":              {&gnmi.SubscriptionList{Mode: gnmi.SubscriptionList_POLL}, codes.Unimplemented},
		"empty":             {&gnmi.SubscriptionList{}, codes.InvalidArgument},
		"unknown path":      {&gnmi.SubscriptionList{Subscription: []*gnmi.Subscription{sub(gnmi.SubscriptionMode_SAMPLE, OriginOpenConfig, "system")}}, codes.InvalidArgument},
		"counters onchange": {&gnmi.SubscriptionList{Subscription: []*gnmi.Subscription{sub(gnmi.SubscriptionMode_ON_CHANGE, OriginOpenConfig, "interfaces")}}, codes.InvalidArgument},
		"1 ns":              {&gnmi.SubscriptionList{Subscription: []*gnmi.Subscription{short}}, codes.InvalidArgument},
	} {
		s, err := r.Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Send(&gnmi.SubscribeRequest{Request: &gnmi.SubscribeRequest_Subscribe{Subscribe: tt.list}})
		if _, err := s.Recv(); status.Code(err) != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}
