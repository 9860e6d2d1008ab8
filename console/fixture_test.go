package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/telemetry"
)

// network is a small network in memory that answers as the real packages do.
type network struct {
	mu        sync.Mutex
	inv       inventory.Inventory
	version   uint64
	devices   []client.Device
	revision  client.RevisionView
	approvals int
	rollouts  []client.Rollout
	decisions []client.Decision
	subjects  []client.Subject
	incidents []client.Incident
	routers   []client.Router
	drifted   []client.Drift // newest first
	basket    client.BasketView
	broken    error // what every read returns, when set
}

func newNetwork() *network {
	n := &network{version: 3}
	n.inv = inventory.Inventory{
		Org:   "hcmc",
		Units: []inventory.Unit{{ID: "u-1", Kind: inventory.Ward, Codes: []inventory.UnitCode{{Code: "26740", Name: "Phường Sài Gòn", ValidFrom: "2025-07-01"}}}},
		Sites: []inventory.Site{{ID: "s-1", Unit: "u-1", Kind: inventory.WardOffice, Name: "UBND", Hubs: []inventory.SiteID{"hub-1"}}},
		Circuits: []inventory.Circuit{
			{ID: "c-1", Site: "s-1", Kind: inventory.FTTH, Carrier: "vnpt"},
		},
	}
	n.devices = []client.Device{{Device: inventory.Device{ID: "d-1", Site: "s-1", Role: inventory.RoleEdge}, State: client.StateOK, Enrolled: true, TunnelsUp: 2, TunnelsTotal: 2}}
	n.revision = client.RevisionView{Revision: intent.Revision{Number: 1, Author: "eng", Hash: "abc", Content: n.inv}}
	n.incidents = []client.Incident{{ID: "i-1", State: "open"}}
	return n
}

func (n *network) read(fn func()) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken == nil {
		fn()
	}
	return n.broken
}

func (n *network) Load(context.Context) (inv inventory.Inventory, v uint64, err error) {
	err = n.read(func() { inv, v = n.inv, n.version })
	return inv, v, err
}

func (n *network) Import(_ context.Context, doc []byte, base uint64, dry bool) (res client.ImportResult, err error) {
	if bytes.Contains(doc, []byte("broken")) {
		return res, inventory.Faults{{File: "upload", Line: 3, Field: "sites[0].unit", Text: "unknown unit"}, {Text: "no hub"}}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !dry {
		if base != n.version {
			return res, fmt.Errorf("version %d is in force: %w", n.version, inventory.ErrConflict)
		}
		n.version++
	}
	return client.ImportResult{Version: n.version, Changed: !dry, Counts: map[string]int{"sites": 1}}, nil
}

func (n *network) Devices(context.Context) (out []client.Device, err error) {
	err = n.read(func() { out = slices.Clone(n.devices) })
	return out, err
}

func (n *network) Device(_ context.Context, id inventory.DeviceID) (client.Device, error) {
	for _, d := range n.devices {
		if d.ID == id {
			return d, nil
		}
	}
	return client.Device{}, fmt.Errorf("device %s: %w", id, inventory.ErrNotFound)
}

func (n *network) Enrol(_ context.Context, ids []inventory.DeviceID, _ string) (client.EnrolmentBundle, error) {
	b := client.EnrolmentBundle{}
	for _, id := range ids {
		b.Tokens = append(b.Tokens, client.EnrolmentToken{Device: id, Token: "secret-enrolment-token"})
	}
	return b, nil
}

func (n *network) Certificates(context.Context) ([]client.Certificate, error) { return nil, nil }

func (n *network) Revoke(_ context.Context, serial, _, _ string) (client.Certificate, error) {
	return client.Certificate{Serial: serial, State: "revoked"}, nil
}

func (n *network) IssueService(context.Context, client.NewServiceCertificate, string) (client.ServiceCertificate, error) {
	return client.ServiceCertificate{Serial: "aa"}, nil
}

type revisions struct{ *network }

func (r revisions) Revisions(context.Context) (out []client.RevisionInfo, err error) {
	err = r.read(func() { out = []client.RevisionInfo{{Number: 1, Author: "eng", Hash: "abc", InForce: true}} })
	return out, err
}

func (r revisions) Revision(_ context.Context, n intent.Number) (client.RevisionView, error) {
	if n != 1 {
		return client.RevisionView{}, fmt.Errorf("revision %d: %w", n, inventory.ErrNotFound)
	}
	return r.revision, nil
}

func (r revisions) Propose(_ context.Context, want client.NewRevision, author string) (client.RevisionInfo, error) {
	return client.RevisionInfo{Number: 2, Author: author, Message: want.Message}, nil
}

func (r revisions) Plan(_ context.Context, n intent.Number) (client.Plan, error) {
	return client.Plan{Revision: n}, nil
}

func (r revisions) Approve(_ context.Context, n intent.Number, a client.NewApproval, by string) (intent.Approval, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.approvals++
	return intent.Approval{Revision: n, Hash: a.Hash, Approver: by, Expires: a.Expires}, nil
}

func (r revisions) Waive(_ context.Context, n intent.Number, w client.NewWaiver, by string) (intent.Waiver, error) {
	return intent.Waiver{Revision: n, Hash: w.Hash, Reason: w.Reason, By: by, Until: w.Until}, nil
}

type rollouts struct{ *network }

func (r rollouts) Rollouts(context.Context) (out []client.Rollout, err error) {
	err = r.read(func() { out = slices.Clone(r.rollouts) })
	return out, err
}

func (r rollouts) Rollout(_ context.Context, id string) (client.Rollout, error) {
	return client.Rollout{ID: id, State: "running"}, nil
}

func (r rollouts) Start(_ context.Context, n intent.Number, _, _ string) (client.Rollout, error) {
	return client.Rollout{}, fmt.Errorf("revision %d needs an approval: %w", n, controller.ErrHeld)
}

func (r rollouts) Act(_ context.Context, id, action, _, _ string) (client.Rollout, error) {
	return client.Rollout{ID: id, State: action + "d"}, nil
}

func (r rollouts) InForce() intent.Number { return 1 }

type decisions struct{ *network }

func (d decisions) Decisions(_ context.Context, f client.DecisionFilter) (out []client.Decision, err error) {
	err = d.read(func() {
		for _, x := range slices.Backward(d.decisions) {
			if f.Allow == nil || *f.Allow == x.Allow {
				out = append(out, x)
			}
		}
	})
	return out, err
}

func (d decisions) Decision(_ context.Context, id string) (client.Decision, error) {
	return client.Decision{}, fmt.Errorf("decision %s: %w", id, inventory.ErrNotFound)
}

func (d decisions) CountDecisions(context.Context) (int64, int64, error) { return 7, 2, nil }

func (d decisions) Subjects(context.Context) ([]client.Subject, error) { return d.subjects, nil }

func (d decisions) PutSubjects(_ context.Context, all []client.Subject, _ string) error {
	d.network.subjects = all
	return nil
}

type incidents struct{ *network }

func (i incidents) Incidents(context.Context) (out []client.Incident, err error) {
	err = i.read(func() { out = slices.Clone(i.incidents) })
	return out, err
}

func (i incidents) Incident(_ context.Context, id string) (client.Incident, error) {
	return client.Incident{ID: id, State: "open"}, nil
}

func (i incidents) Act(_ context.Context, id, action string, what client.IncidentAction, by string) (client.Incident, error) {
	return client.Incident{ID: id, State: "acknowledged", Owner: by}, nil
}

func (i incidents) Findings(context.Context, client.FindingFilter) ([]client.Finding, error) {
	return nil, nil
}

func (i incidents) CountFindings(context.Context) (int64, error) { return 5, nil }

func (n *network) Range(context.Context, telemetry.RangeQuery) ([]telemetry.Series, error) {
	return []telemetry.Series{{Device: "d-1", Points: []telemetry.Point{{At: time.Unix(0, 0).UTC(), Value: 0.5}}}}, nil
}

func (n *network) Samples() int64 { return 11 }

func (n *network) Backup(_ context.Context, recipient string, w io.Writer) error {
	switch recipient {
	case "bad":
		return fmt.Errorf("%w: recipient %q is no age recipient", inventory.ErrInvalid, recipient)
	case "torn":
		_, err := w.Write(bytes.Repeat([]byte("half"), 1<<16))
		return errors.Join(err, errors.New("disk failed"))
	}
	_, err := io.WriteString(w, "archive for "+recipient)
	return err
}

// switched is an audit log that can be made to fail.
type switched struct {
	*store.Audit
	mu   sync.Mutex
	fail error
}

func (s *switched) Append(ctx context.Context, e client.AuditEntry) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	return s.Audit.Append(ctx, e)
}

// site is a console under test with its people on a real database.
type site struct {
	t     *testing.T
	net   *network
	con   *Console
	dir   *people.Directory
	audit *switched
	srv   *httptest.Server
	glass chan time.Time
}

// cheap keeps the tests fast; it is the weakest that is allowed.
var cheap = people.HashParams{Time: 2, Memory: 19 << 10, Threads: 1}

const password = "đèn lồng Hội An 1999"

func newSite(t *testing.T, edits ...func(*Config)) *site {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "wardnet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	log := slog.New(slog.DiscardHandler)
	rows := store.NewPeople(db, "hcmc")
	dir, err := people.New(people.Deps{Users: rows, Sessions: rows, Tokens: rows, Setup: rows, Log: log}, people.Config{Hash: cheap})
	if err != nil {
		t.Fatal(err)
	}
	n := newNetwork()
	s := &site{t: t, net: n, dir: dir, audit: &switched{Audit: store.NewAudit(db, "hcmc")}, glass: make(chan time.Time, 10)}
	cfg := Config{Refresh: 20 * time.Millisecond, Heartbeat: 50 * time.Millisecond}
	for _, edit := range edits {
		edit(&cfg)
	}
	s.con, err = New(Deps{
		People: dir, Audit: s.audit, Inventory: n, Devices: n, Certificates: n, Revisions: revisions{n}, Rollouts: rollouts{n},
		Decisions: decisions{n}, Subjects: decisions{n}, Incidents: incidents{n}, History: n, Backup: n, Boots: n, Replacements: n, Tools: n, Agents: n, Drifts: drifts{n},
		BreakGlass: func(_ context.Context, at time.Time) { s.glass <- at }, Log: log, Reg: prometheus.NewRegistry(),
	}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.srv = httptest.NewUnstartedServer(nil)
	s.srv.Config = s.con.Server()
	s.srv.EnableHTTP2 = true
	s.srv.StartTLS()
	t.Cleanup(s.srv.Close)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.con.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// user creates a user with roles and returns a client signed in as them.
func (s *site) user(name string, roles ...client.Role) *client.Client {
	s.t.Helper()
	if _, err := s.dir.Create(s.t.Context(), client.User{Name: name, FullName: name, Roles: roles}, password); err != nil {
		s.t.Fatal(err)
	}
	c := s.client()
	if _, err := c.Login(s.t.Context(), client.Login{Name: name, Password: password}); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// client is a client nobody has signed in with.
func (s *site) client() *client.Client {
	s.t.Helper()
	c, err := client.New(client.Config{Server: s.srv.URL, RootPEM: pemOf(s.srv)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// raw sends a request by hand.
func (s *site) raw(method, path, body string, header map[string]string) (*http.Response, client.Problem) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.srv.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := s.srv.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var p client.Problem
	if res.StatusCode >= 400 {
		if err := json.Unmarshal(b, &p); err != nil {
			s.t.Fatalf("%s %s: %s is no problem document: %v", method, path, b, err)
		}
	}
	return res, p
}

// last returns the newest audit entries, newest first.
func (s *site) last(n int) []client.AuditEntry {
	s.t.Helper()
	list, err := s.audit.List(s.t.Context(), "", 0, n)
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}
