package linux

import (
	"fmt"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/hosttest"
)

// TestReached follows a WAN port from nothing to a way out, which may be in a
// routing table of its circuit.
func TestReached(t *testing.T) {
	if !hosttest.Enter(t) {
		return
	}
	circuits := []edge.Circuit{{Name: "c-1", Port: "wan0"}, {Name: "c-2", Port: "wan9"}}
	for _, step := range []struct {
		do   []string
		want string
	}{
		{nil, "{[] [] []}"},
		{[]string{"link", "add", "wan0", "type", "veth", "peer", "name", "far0"}, "{[] [] []}"},
		{[]string{"link", "set", "wan0", "up"}, "{[] [] []}"}, // its cable is not in
		{[]string{"link", "set", "far0", "up"}, "{[wan0] [] []}"},
		{[]string{"addr", "add", "192.0.2.2/24", "dev", "wan0"}, "{[wan0] [wan0 192.0.2.2/24] []}"},
		{[]string{"route", "add", "198.51.100.0/24", "via", "192.0.2.1"}, "{[wan0] [wan0 192.0.2.2/24] []}"},
		{[]string{"route", "add", "default", "via", "192.0.2.1", "table", "5701"}, "{[wan0] [wan0 192.0.2.2/24] [wan0]}"},
	} {
		if step.do != nil {
			hosttest.Run(t, "ip", step.do...)
		}
		got, err := Reached(circuits)
		if err != nil || fmt.Sprint(got) != step.want {
			t.Errorf("after ip %v: %v, %v; want %s", step.do, got, err, step.want)
		}
	}
}
