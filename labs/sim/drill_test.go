package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/wardnet/wardnet/pki"
)

// The drill of a stolen devices issuer on a city of simulated edges: real
// agents, connected and managed. Their sessions end at once, every agent notices
// by itself, and within the minute each is connected with a certificate of the
// new issuer and a new key.
func TestCompromiseDrill(t *testing.T) {
	const wards = 206
	c := newControlPlane(t)
	edges, _ := town(wards)
	c.admit(edges)
	start(t, edges, t.TempDir())
	all := func() error {
		if n := len(c.channel.Sessions()); n != len(edges) {
			return fmt.Errorf("%d of %d edges are connected", n, len(edges))
		}
		return nil
	}
	eventually(t, 2*time.Minute, all)
	old := map[string]bool{}
	for _, s := range c.channel.Sessions() {
		old[s.Serial] = true
	}
	begin := time.Now()
	out, err := c.pki.Distrust(t.Context(), pki.Compromise{Issuer: pki.Devices, By: "an", Reason: "drill"})
	must(t, err)
	t.Logf("distrust returned after %s; %d holders", time.Since(begin).Round(time.Millisecond), len(out.Holders))
	for _, s := range c.channel.Sessions() {
		if old[s.Serial] {
			t.Errorf("the session of %s survived", s.Device)
			break
		}
	}
	eventually(t, 90*time.Second, func() error {
		if err := all(); err != nil {
			return err
		}
		for _, s := range c.channel.Sessions() {
			if old[s.Serial] {
				return fmt.Errorf("%s is connected with its old certificate", s.Device)
			}
		}
		return nil
	})
	back := time.Since(begin)
	list, err := c.pki.Rotations(t.Context())
	must(t, err)
	d := list[0].Generations[0].Drill
	t.Logf("time line: %d of %d re-keyed, first %s, half %s, 95 %% %s, all %s; all connected again after %s",
		d.Rekeyed, d.Affected, d.First.Round(time.Millisecond), d.Half.Round(time.Millisecond), d.P95.Round(time.Millisecond), d.Last.Round(time.Millisecond), back.Round(time.Millisecond))
	if d.Affected != len(edges) || d.Rekeyed != len(edges) || len(d.Remaining) > 0 {
		t.Errorf("drill %+v", d)
	}
}
