package openconfig

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/labs/gnmibox"
)

// The archived text has what the device has, ours and another's, whatever form
// it is told in.
func TestText(t *testing.T) {
	t.Parallel()
	each(t, true, func(t *testing.T, h gnmibox.Habits) {
		r := open(t, h)
		r.write(t, edge.Config{Device: "e-1"}, writable())
		texter, ok := r.box.(foreign.Texter)
		if !ok {
			t.Fatal("no Texter")
		}
		text, complete, err := texter.Text(t.Context())
		must(t, err)
		if !complete || !json.Valid([]byte(text)) {
			t.Errorf("complete %t:\n%s", complete, text)
		}
		want := []string{`"out-of-band"`, `"192.0.2.10"`, `"wardnet circuit c-1-a"`, `"203.0.113.1"`}
		if len(h.Lacks) == 0 {
			want = append(want, `"wardnet-in-staff-4"`, `"mgmt-only"`, `"wardnet-in-c-1-a--hub-1"`)
		}
		for _, s := range want {
			if !strings.Contains(text, s) {
				t.Errorf("%s is not in\n%s", s, text)
			}
		}
		again, _, err := texter.Text(t.Context())
		must(t, err)
		if again != text {
			t.Error("told twice, it is not the same")
		}
	})
}

// What a device says of its sessions, and that it says nothing.
func TestSessions(t *testing.T) {
	t.Parallel()
	c := writable()
	at := func(state map[string]string, muted bool) []edge.TunnelState {
		r := open(t, gnmibox.Habits{Mute: muted})
		r.write(t, edge.Config{Device: "e-1"}, c)
		r.Sessions(func(n string) string { return state[n] })
		got, err := r.box.Tunnels(t.Context(), c)
		must(t, err)
		return got
	}
	a, b := c.BGP.Neighbours[0], c.BGP.Neighbours[1]
	got := at(map[string]string{a.Addr.String(): "ESTABLISHED", b.Addr.String(): "ACTIVE"}, false)
	want := []edge.TunnelState{{Name: a.Tunnel, Up: true, BGP: true, BFD: true}, {Name: b.Tunnel, BFD: true}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, s := range at(nil, true) {
		if !s.Unknown || s.Up || s.BGP {
			t.Errorf("of a session that is not told: %+v", s)
		}
	}
}
