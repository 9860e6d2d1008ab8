//go:build lab

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// box is a router as somebody has it who is at the device itself.
type box interface {
	preference() string                // of its session with the hub
	prefer(t *testing.T, value string) // changes that
	// plant sets something that is not ours, with a secret in it, and names it.
	plant(t *testing.T, secret string) (name string)
}

// The one uplink of the tests: hub-1's, to the router.
const (
	routerID = inventory.DeviceID("r-core-1")

	sessionID = "d-hub-1/dc"
	hubEnd    = "10.255.0.2"
	dcEnd     = "10.255.0.1"
	dcASN     = 65010
)

// Bounds of what the controller does, beside those of its configuration below.
const (
	driftTold = 10 * time.Second
	soon      = 40 * time.Second
	rollsEnd  = 3 * time.Minute
)

// town is a controller, simulated edges at all sites of city.yaml, and a router
// at the end of hub-1's uplink.
type town struct {
	*center
	engineer, approver, security *client.Client
}

func newTown(t *testing.T, r inventory.Router) *town {
	t.Helper()
	dir := t.TempDir()
	conf := "controller: {pass: 12s, revert: 18s, grace: 5s}\n" + freePorts(filepath.Join(dir, "data"))
	if err := os.WriteFile(filepath.Join(dir, "wardnet.yaml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	tw := &town{center: begin(t, dir)}
	if err := tw.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	for who, at := range map[string]**client.Client{"lan": &tw.engineer, "minh": &tw.approver, "an": &tw.security} {
		if err := tw.hire(t.Context(), who); err != nil {
			t.Fatal(err)
		}
		c, err := client.New(client.Config{Server: "https://" + tw.serving.Console, RootCA: tw.serving.Root, TokenFile: tw.tokenFile(who)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		*at = c
	}
	city, err := os.ReadFile(filepath.Join("testdata", "city.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tw.engineer.ImportInventory(t.Context(), city, 0); err != nil {
		t.Fatal(err)
	}
	r.ID, r.Serial, r.Site, r.Intended = routerID, "SN-1", "hub-1", inventory.InService
	tw.edit(t, func(inv *inventory.Inventory) {
		inv.Routers = []inventory.Router{r}
		for i := range inv.Sites {
			if inv.Sites[i].ID == r.Site {
				inv.Sites[i].Uplinks = []inventory.Uplink{{
					Name: "dc", Port: "up0", Address: netip.MustParsePrefix(hubEnd + "/30"), Peer: netip.MustParseAddr(dcEnd), PeerASN: dcASN, Router: r.ID,
				}}
			}
		}
	})
	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join(dir, "serve.log")); err == nil && t.Failed() {
			t.Logf("serve.log ends with\n%s", log[max(0, len(log)-3000):])
		}
	})
	return tw
}

// edit changes the inventory.
func (tw *town) edit(t *testing.T, change func(*inventory.Inventory)) {
	t.Helper()
	inv, version, err := tw.engineer.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	change(&inv)
	var doc bytes.Buffer
	if err := inventory.Encode(&doc, inv); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.engineer.ImportInventory(t.Context(), doc.Bytes(), version); err != nil {
		t.Fatal(err)
	}
}

// edges runs simulated edges at all sites until the test ends, and waits until
// they are connected.
func (tw *town) edges(t *testing.T) {
	t.Helper()
	cmd := exec.Command("wardnet", append([]string{"lab", "sim", "--edges", "0", "--state", "edges", "--control", "sim.sock", "--ramp", "100ms", "--json"}, tw.as("lan")...)...)
	cmd.Dir = tw.dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil {
			t.Errorf("wardnet lab sim: %v\n%s", err, said.String())
		}
	})
	first := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		first <- line
	}()
	select {
	case line := <-first:
		var event struct {
			Event     string `json:"event"`
			Connected int    `json:"connected"`
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil || event.Event != "connected" || event.Connected != 4 {
			t.Fatalf("the simulated edges say %q, %v", line, err)
		}
	case <-time.After(soon):
		t.Fatalf("the simulated edges are not connected after %s", soon)
	}
}

// until waits for something, and gives how long it took.
func until(t *testing.T, limit time.Duration, what string, is func(context.Context) bool) time.Duration {
	t.Helper()
	start, tick := time.Now(), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for !is(t.Context()) {
		if time.Since(start) > limit {
			t.Fatalf("not after %s: %s", limit, what)
		}
		<-tick.C
	}
	return time.Since(start)
}

// planned is what the plan of revision n says of the router.
func (tw *town) planned(t *testing.T, n intent.Number) (client.DeviceChange, client.Plan) {
	t.Helper()
	p, err := tw.engineer.Plan(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Proof.Holds {
		t.Fatalf("the plan of revision %d is not proven: %+v", n, p.Proof)
	}
	i := slices.IndexFunc(p.Changes, func(c client.DeviceChange) bool { return c.Device == routerID })
	if i < 0 {
		t.Fatalf("the plan of revision %d does not change the router: %+v", n, p.Changes)
	}
	return p.Changes[i], p
}

// revise makes a revision and has it approved.
func (tw *town) revise(t *testing.T, why string) intent.Number {
	t.Helper()
	rev, err := tw.engineer.CreateRevision(t.Context(), client.NewRevision{Message: why})
	if err != nil {
		t.Fatal(err)
	}
	return rev.Number
}

// out approves revision n and rolls it out, to its end.
func (tw *town) out(t *testing.T, n intent.Number) client.Rollout {
	t.Helper()
	rev, err := tw.approver.Revision(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tw.approver.Approve(t.Context(), n, client.NewApproval{Hash: rev.Hash, Comment: "Đã xem kế hoạch"}); err != nil {
		t.Fatal(err)
	}
	roll, err := tw.engineer.StartRollout(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	until(t, rollsEnd, "the rollout's end", func(ctx context.Context) bool {
		now, err := tw.engineer.Rollout(ctx, roll.ID)
		if err == nil {
			roll = now
		}
		return err == nil && roll.Ended != nil
	})
	return roll
}

func (tw *town) mustOut(t *testing.T, n intent.Number) {
	t.Helper()
	if roll := tw.out(t, n); roll.State != "done" {
		t.Fatalf("the rollout of revision %d ended as %s: %s", n, roll.State, roll.Reason)
	}
}

// drift is the router's newest.
func (tw *town) drift(t *testing.T, ctx context.Context) (client.Drift, int) {
	t.Helper()
	all, err := tw.engineer.Drifts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(d client.Drift) bool { return d.Device != routerID })
	if len(all) == 0 {
		return client.Drift{}, 0
	}
	return all[0], len(all)
}

// router is how the controller sees it.
func (tw *town) router(t *testing.T) client.Router {
	t.Helper()
	all, err := tw.engineer.Routers(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("Routers() = %+v, %v", all, err)
	}
	return all[0]
}

// changedByHand changes the router at the device, and holds the controller to
// telling it in time and to leaving it.
func (tw *town) changedByHand(t *testing.T, b box, value string) client.Drift {
	t.Helper()
	_, before := tw.drift(t, t.Context())
	b.prefer(t, value)
	var d client.Drift
	took := until(t, driftTold, "a drift that is told", func(ctx context.Context) bool {
		now, n := tw.drift(t, ctx)
		d = now
		return n > before
	})
	t.Logf("drift told after %s: %s", took, strings.Join(d.Changes, "; "))
	if d.State != "open" || !strings.Contains(strings.Join(d.Changes, "\n"), "preference 100 → "+value) {
		t.Errorf("drift %+v, want it open and the preference in it", d)
	}
	<-time.After(9 * time.Second) // what must not happen can only be waited out: the next look is within 8 s
	if got := b.preference(); got != value {
		t.Errorf("the router has preference %s again; it was to be left at %s", got, value)
	}
	return d
}

// story is the life of a router's configuration: planned, approved, applied, read
// back, changed by hand, reverted, changed again, adopted, archived.
//
// foreseen is in the first plan and limits are in the router's row; without any
// the router returns by itself.
func (tw *town) story(t *testing.T, b box, foreseen string, limits ...string) {
	t.Helper()
	n := tw.revise(t, "Bộ định tuyến trung tâm dữ liệu")
	until(t, soon, "a plan that tells what the device lacks", func(context.Context) bool {
		c, _ := tw.planned(t, n)
		return strings.Contains(c.Reason, foreseen)
	})
	c, p := tw.planned(t, n)
	if c.Op != "create" || c.Wave != "router-r-core-1" {
		t.Errorf("planned as %s in wave %q of %+v", c.Op, c.Wave, p.Waves)
	}
	tw.mustOut(t, n)
	if got := b.preference(); got != "100" {
		t.Fatalf("the router has preference %q", got)
	}
	r := tw.router(t)
	if r.State != client.StateOK || !r.InSync || r.Revision != uint64(n) {
		t.Errorf("the controller sees %+v", r)
	}
	for _, want := range limits {
		if !strings.Contains(strings.Join(r.Limits, "\n"), want) {
			t.Errorf("its limits are %q, want %q", r.Limits, want)
		}
	}
	if len(limits) == 0 && slices.ContainsFunc(r.Limits, func(s string) bool { return strings.Contains(s, "unconfirmed") }) {
		t.Errorf("its limits are %q", r.Limits)
	}

	d := tw.changedByHand(t, b, "7")
	why := client.DriftDecision{Reason: "kiểm thử"}
	if _, err := tw.engineer.DecideDrift(t.Context(), d.ID, "revert", why); err != nil {
		t.Fatal(err)
	}
	until(t, soon, "the router put back", func(ctx context.Context) bool {
		now, _ := tw.drift(t, ctx)
		return b.preference() == "100" && now.State == "returned"
	})

	d = tw.changedByHand(t, b, "8")
	d, err := tw.engineer.DecideDrift(t.Context(), d.ID, "adopt", why)
	if err != nil {
		t.Fatal(err)
	}
	tw.mustOut(t, d.Adopts)
	until(t, soon, "the drift being over", func(ctx context.Context) bool {
		now, _ := tw.drift(t, ctx)
		return now.State == "adopted"
	})
	if got := b.preference(); got != "8" {
		t.Errorf("adopted, and the router has preference %s", got)
	}
	tw.archived(t, b)
}

// archived holds the archive to having what the device has, without its secrets.
func (tw *town) archived(t *testing.T, b box) {
	t.Helper()
	const secret = "b1-m4t-kh4u-QT"
	name := b.plant(t, secret)
	until(t, soon, "the archive having "+name, func(ctx context.Context) bool {
		v, err := tw.engineer.Config(ctx, routerID, 0)
		return err == nil && v.Complete && strings.Contains(v.Text, name) && strings.Contains(v.Text, "<redacted-") && strings.Contains(v.Text, hubEnd)
	})
	all, err := tw.engineer.Configs(t.Context(), routerID)
	if err != nil || len(all) < 4 {
		t.Fatalf("%d versions, %v", len(all), err)
	}
	for _, h := range all {
		v, err := tw.engineer.Config(t.Context(), routerID, h.N)
		if err != nil || strings.Contains(v.Text, secret) {
			t.Errorf("version %d has the secret, or cannot be read: %v", h.N, err)
		}
	}
	log, err := os.ReadFile(filepath.Join(tw.dir, "serve.log"))
	if err != nil || bytes.Contains(log, []byte(secret)) {
		t.Errorf("the log has the secret, or cannot be read: %v", err)
	}
}
