package console

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/channel"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/policy"
	"github.com/wardnet/wardnet/telemetry"
)

func openDB(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "wardnet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// planner stands for a controller that has nothing in force yet.
type planner struct{}

func (planner) Plan(context.Context, intent.Number) (controller.Plan, error) {
	return controller.Plan{Revision: 1, Counts: map[controller.Action]int{controller.Create: 2}, Waves: []controller.PlannedWave{{Name: "hub-1"}}}, nil
}

func (planner) Prove(context.Context, intent.Number) (controller.Proof, error) {
	return controller.Proof{Result: proof.Result{Counterexamples: []proof.Counterexample{{Intent: "segment iot must not open TCP port 1 to segment staff"}}}}, nil
}
func (planner) InForce() intent.Number { return 0 }

func TestInventoryAndRevisionsOnTheCity(t *testing.T) {
	ctx, db := t.Context(), openDB(t)
	city := sample.City()
	told := uint64(0)
	keep := AdaptInventory(store.NewInventory(db, city.Org), city.Org, func(_ context.Context, inv inventory.Inventory, v uint64) { told = v })
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rows := store.NewRevisions(db, city.Org)
	revs := AdaptRevisions(IntentSources{Store: rows, Approvals: rows, Waivers: rows, Inventory: keep, Org: city.Org, Signer: key, KeyID: "k1", Planner: planner{}})
	if _, err := revs.Propose(ctx, client.NewRevision{Message: "first"}, "eng"); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a revision of nothing: %v", err)
	}
	foreign := bytes.Replace(sample.Document(), []byte("org: "+string(city.Org)), []byte("org: elsewhere"), 1)
	if _, err := keep.Import(ctx, foreign, 0, false); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("another organisation's inventory: %v", err)
	}
	dry, err := keep.Import(ctx, sample.Document(), 99, true)
	if err != nil || dry.Version != 0 || !dry.Changed || told != 0 {
		t.Fatalf("check: %+v, %v", dry, err)
	}
	if _, err := keep.Import(ctx, sample.Document(), 99, false); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("another version: %v", err)
	}
	res, err := keep.Import(ctx, sample.Document(), 0, false)
	if err != nil || res.Version != 1 || told != 1 || res.Counts["sites"] != len(city.Sites) {
		t.Fatalf("import: %+v, %v", res, err)
	}
	if again, err := keep.Import(ctx, sample.Document(), 1, false); err != nil || again.Changed || again.Version != 1 {
		t.Errorf("the same again: %+v, %v", again, err)
	}

	r, err := revs.Propose(ctx, client.NewRevision{Message: "first"}, "eng")
	if err != nil || r.Number != 1 || r.Hash == "" || r.Approvals == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	full, err := revs.Revision(ctx, 1)
	if err != nil || intent.Verify(full.Revision, key.Public()) != nil {
		t.Fatalf("the stored revision does not verify: %v", err)
	}
	a, err := revs.Approve(ctx, 1, client.NewApproval{Hash: r.Hash, Expires: time.Now().Add(time.Hour)}, "sec")
	if err != nil || intent.VerifyApproval(a, key.Public()) != nil {
		t.Errorf("approval %+v, %v", a, err)
	}
	w, err := revs.Waive(ctx, 1, client.NewWaiver{Hash: r.Hash, Reason: "until the cameras move", Until: time.Now().Add(time.Hour)}, "sec")
	if err != nil || intent.VerifyWaiver(w, key.Public()) != nil || !strings.Contains(w.Finding, "must not open TCP port 1") {
		t.Errorf("waiver %+v, %v", w, err)
	}
	if _, err := revs.Waive(ctx, 1, client.NewWaiver{Hash: r.Hash, Until: time.Now().Add(time.Hour)}, "sec"); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a waiver without a reason: %v", err)
	}
	if list, err := revs.Revisions(ctx); err != nil || len(list) != 1 || len(list[0].Approvals) != 1 || len(list[0].Waivers) != 1 {
		t.Errorf("list %+v, %v", list, err)
	}
	first, err1 := revs.Return(ctx, 1, 1, "tunnels down")
	second, err2 := revs.Return(ctx, 1, 1, "tunnels down")
	if err1 != nil || err2 != nil || first != 2 || second != 2 {
		t.Errorf("returns %d, %d (%v, %v); want the same", first, second, err1, err2)
	}
	if p, err := revs.Plan(ctx, 1); err != nil || p.Devices.Create != 2 || p.Waves[0].State != "waiting" || p.Waiver == nil {
		t.Errorf("plan %+v, %v", p, err)
	}
}

// watched is one edge with two tunnels and its hub.
type watched struct {
	status controller.Status
	err    error
}

func (w watched) Status(inventory.DeviceID) (controller.Status, error) { return w.status, w.err }

func (w watched) Want(id inventory.DeviceID) (edge.Config, error) {
	if id != "d-1" {
		return edge.Config{}, inventory.ErrNotFound
	}
	return edge.Config{Device: id, Tunnels: []edge.Tunnel{{Name: "c-1--h-1", Peer: "h-1"}, {Name: "c-2--h-1", Peer: "h-1"}}}, nil
}

func TestDevicesJoin(t *testing.T) {
	now := time.Now()
	valid := pki.Certificate{Device: "d-1", Serial: "new", NotAfter: now.Add(time.Hour)}
	revoked := pki.Certificate{Device: "d-1", Serial: "old", NotAfter: now.Add(time.Hour), RevokedAt: now}
	inSync := controller.Status{Device: "d-1", Target: controller.Target{Revision: 1}, Revision: 1, Want: "h", Hash: "h"}
	up := func(dev, tun string, v float64) telemetry.Sample {
		return telemetry.Sample{Device: inventory.DeviceID(dev), Metric: telemetry.TunnelUp, Object: tun, Value: v}
	}
	for name, tt := range map[string]struct {
		certs    []pki.Certificate
		sessions []string
		samples  []telemetry.Sample
		status   controller.Status
		want     client.DeviceState
		up       int
	}{
		"not enrolled":              {want: client.StatePlanned},
		"revoked":                   {certs: []pki.Certificate{revoked}, sessions: []string{"d-1"}, want: client.StatePlanned},
		"no channel":                {certs: []pki.Certificate{valid, revoked}, want: client.StateDown},
		"no channel, hub sees it":   {certs: []pki.Certificate{valid}, sessions: []string{"h-1"}, samples: []telemetry.Sample{up("h-1", "c-1--h-1", 1)}, want: client.StateDown, up: 1},
		"no tunnel":                 {certs: []pki.Certificate{valid}, sessions: []string{"d-1"}, status: inSync, want: client.StateDown},
		"one tunnel":                {certs: []pki.Certificate{valid}, sessions: []string{"d-1"}, samples: []telemetry.Sample{up("d-1", "c-1--h-1", 1), up("d-1", "c-2--h-1", 0)}, status: inSync, want: client.StateDegraded, up: 1},
		"both, not in sync":         {certs: []pki.Certificate{valid}, sessions: []string{"d-1"}, samples: []telemetry.Sample{up("d-1", "c-1--h-1", 1), up("d-1", "c-2--h-1", 1)}, want: client.StateDegraded, up: 2},
		"both":                      {certs: []pki.Certificate{valid}, sessions: []string{"d-1"}, samples: []telemetry.Sample{up("d-1", "c-1--h-1", 1), up("d-1", "c-2--h-1", 1)}, status: inSync, want: client.StateOK, up: 2},
		"own word before the hub's": {certs: []pki.Certificate{valid}, sessions: []string{"d-1", "h-1"}, samples: []telemetry.Sample{up("d-1", "c-1--h-1", 0), up("h-1", "c-1--h-1", 1)}, status: inSync, want: client.StateDown},
	} {
		t.Run(name, func(t *testing.T) {
			tunnels := NewTunnels()
			for _, s := range tt.samples {
				tunnels.Observe(s)
			}
			n := newNetwork()
			n.inv.Devices = []inventory.Device{{ID: "d-1", Site: "s-1", Role: inventory.RoleEdge, Intended: inventory.InService}, {ID: "d-0", Intended: inventory.Retired}}
			devs := AdaptDevices(DeviceSources{
				Inventory: n, Controller: watched{status: tt.status}, Tunnels: tunnels,
				Certificates: func(context.Context) ([]pki.Certificate, error) { return tt.certs, nil },
				Sessions: func() (out []channel.Session) {
					for _, id := range tt.sessions {
						out = append(out, channel.Session{Device: inventory.DeviceID(id)})
					}
					return out
				},
				Targets: func() []telemetry.TargetStatus { return []telemetry.TargetStatus{{Device: "d-1", Last: now}} },
			})
			list, err := devs.Devices(t.Context())
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			d := list[0]
			if d.State != tt.want || d.TunnelsUp != tt.up || d.TunnelsTotal != 2 || d.LastSeen == nil {
				t.Errorf("%+v, want %s with %d up", d, tt.want, tt.up)
			}
			if d.Enrolled && d.CertSerial != "new" {
				t.Errorf("certificate %s", d.CertSerial)
			}
			if _, err := devs.Device(t.Context(), "d-9"); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("no such device: %v", err)
			}
		})
	}
}

func TestFindingsAreBounded(t *testing.T) {
	n := newNetwork()
	n.inv.Devices = []inventory.Device{{ID: "d-1", Site: "s-1"}}
	b := AdaptIncidents(nil, n)
	for i := range maxFindings + 5 {
		b.Observe(anomaly.Finding{ID: time.Duration(i).String(), Device: "d-1", From: time.Unix(int64(i), 0)})
	}
	last := anomaly.Finding{ID: time.Duration(maxFindings + 4).String(), Device: "d-1", To: time.Unix(1, 0)}
	b.Observe(last) // cleared: the same one
	list, err := b.Findings(t.Context(), client.FindingFilter{Site: "s-1", Limit: 3})
	if err != nil || len(list) != 3 || list[0].ID != last.ID || list[0].To == nil || list[0].Site != "s-1" {
		t.Errorf("%+v, %v", list, err)
	}
	if open, _ := b.Findings(t.Context(), client.FindingFilter{Open: true, Limit: 1}); open[0].ID == last.ID {
		t.Error("a cleared finding is open")
	}
	if c, _ := b.CountFindings(t.Context()); c != maxFindings+5 || len(b.findings) != maxFindings {
		t.Errorf("count %d, kept %d", c, len(b.findings))
	}
}

func TestDecisionView(t *testing.T) {
	d := decisionView(policy.Record{
		Request:  policy.Request{Subject: "lan", Device: "d-1", Application: "app"},
		Decision: policy.Decision{ID: "1", Rule: "group", Code: policy.CodeGroup, Reasons: []policy.Reason{{Rule: "group", Attribute: "groups", Value: "x", Want: "y", Remedy: "ask for y"}}},
	}, map[inventory.DeviceID]inventory.SiteID{"d-1": "s-1"})
	if d.Site != "s-1" || !strings.Contains(d.Reason, `groups is "x", wanted y`) || d.Remedy != "ask for y" || d.Allow {
		t.Errorf("%+v", d)
	}
}
