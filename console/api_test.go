package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func TestInventoryImport(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	eng := s.user("eng", client.RoleEngineer)
	inv, version, err := eng.Inventory(ctx)
	if err != nil || version != 3 || inv.Org != "hcmc" || len(inv.Sites) != 1 {
		t.Fatal(inv, version, err)
	}
	_, err = eng.ImportInventory(ctx, []byte("broken"), version)
	p, ok := errors.AsType[*client.Problem](err)
	if !ok || p.Status != http.StatusUnprocessableEntity || len(p.Faults) != 2 || p.Faults[0] != "upload:3: sites[0].unit: unknown unit" || p.Hint == "" {
		t.Errorf("faults: %v", err)
	}
	if res, err := eng.CheckInventory(ctx, []byte("org: hcmc")); err != nil || res.Changed {
		t.Errorf("check: %+v, %v", res, err)
	}
	if _, err := eng.ImportInventory(ctx, []byte("org: hcmc"), 2); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("an old version: %v", err)
	}
	if res, err := eng.ImportInventory(ctx, []byte("org: hcmc"), version); err != nil || res.Version != 4 {
		t.Errorf("import: %+v, %v", res, err)
	}
	if e := s.last(1)[0]; e.What != "put-inventory" || e.Who != "eng" || string(e.Before) != `{"version":3}` {
		t.Errorf("audit %+v %s", e, e.Before)
	}
	big := bytes.Repeat([]byte("#"), 33<<20)
	if _, err := eng.ImportInventory(ctx, big, 4); !errors.Is(err, inventory.ErrInvalid) {
		p, _ := errors.AsType[*client.Problem](err)
		if p == nil || p.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("33 MiB: %v", err)
		}
	}
}

func TestIfMatchIsAskedFor(t *testing.T) {
	s := newSite(t)
	c := s.user("eng", client.RoleEngineer)
	tok, err := c.CreateToken(t.Context(), client.NewToken{Name: "t", Scopes: []client.Role{client.RoleEngineer}, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]int{"": 428, "3": 422, `W/"3"`: 422, `"03"`: 422, `"-1"`: 422, `"3"`: 200} {
		h := map[string]string{"Authorization": "Bearer " + tok.Secret, "Content-Type": "application/yaml"}
		if in != "" {
			h["If-Match"] = in
		}
		if res, p := s.raw("PUT", "/api/v1/inventory", "org: hcmc", h); res.StatusCode != want {
			t.Errorf("If-Match %s: %s %+v, want %d", in, res.Status, p, want)
		}
	}
}

func TestApprovals(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	author, other := s.user("eng", client.RoleEngineer), s.user("sec", client.RoleSecurity)
	if _, err := author.Approve(ctx, 1, client.NewApproval{Hash: "abc"}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("by the author: %v", err)
	}
	if _, err := other.Approve(ctx, 1, client.NewApproval{Hash: "abd"}); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("another hash: %v", err)
	}
	if _, err := other.Approve(ctx, 1, client.NewApproval{Hash: "abc", Expires: time.Now().Add(25 * time.Hour)}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("25 h: %v", err)
	}
	if _, err := other.Approve(ctx, 1, client.NewApproval{Hash: "abc", Expires: time.Now().Add(-time.Hour)}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("in the past: %v", err)
	}
	if s.net.approvals != 0 {
		t.Fatalf("%d approvals were signed that must not be", s.net.approvals)
	}
	a, err := other.Approve(ctx, 1, client.NewApproval{Hash: "abc"})
	if err != nil || a.Approver != "sec" || time.Until(a.Expires) > 24*time.Hour {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := author.StartRollout(ctx, 1); !errors.Is(err, client.ErrHeld) || client.HintOf(err) == "" {
		t.Errorf("a held rollout: %v", err)
	}
	if e := s.last(1)[0]; e.Outcome != "refused" || e.Object != "revision/1" || !strings.Contains(e.Reason, "needs an approval") {
		t.Errorf("audit %+v", e)
	}
}

func TestReadsAndViews(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	c := s.user("aud", client.RoleAuditor)
	units, err := c.Units(ctx)
	if err != nil || len(units) != 1 || units[0].Name != "Phường Sài Gòn" || units[0].Code != "26740" || units[0].State != client.StateOK || len(units[0].Sites) != 1 {
		t.Errorf("units %+v, %v", units, err)
	}
	site, err := c.Site(ctx, "s-1")
	if err != nil || len(site.Devices) != 1 || len(site.Circuits) != 1 {
		t.Errorf("site %+v, %v", site, err)
	}
	if _, err := c.Site(ctx, "s-9"); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("no site: %v", err)
	}
	sum, err := c.Summary(ctx)
	if err != nil || sum.Sites != 1 || sum.TunnelsUp != 2 || sum.Allow != 7 || sum.Deny != 2 || sum.Samples != 11 || sum.Findings != 5 || sum.Incidents != 1 || sum.Revision != 1 || sum.RSSBytes == 0 {
		t.Errorf("summary %+v, %v", sum, err)
	}
	now := time.Now()
	if got, err := c.Series(ctx, client.SeriesQuery{Metric: "tunnel_loss_ratio", From: now.Add(-time.Hour), To: now}); err != nil || len(got) != 1 || got[0].Points[0].Value != 0.5 {
		t.Errorf("series %+v, %v", got, err)
	}
	if _, err := c.Series(ctx, client.SeriesQuery{Metric: "x", From: now.AddDate(-1, 0, 0), To: now, Step: time.Second}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a year by the second: %v", err)
	}
	if list, err := c.Incidents(ctx, "resolved"); err != nil || len(list) != 0 {
		t.Errorf("resolved incidents %+v, %v", list, err)
	}
	if certs, err := c.Certificates(ctx); err != nil || certs == nil {
		t.Errorf("an empty list is %v, %v; want []", certs, err)
	}
	s.net.mu.Lock()
	s.net.broken = errors.New("password of the database is hunter2")
	s.net.mu.Unlock()
	_, err = c.Devices(ctx)
	p, ok := errors.AsType[*client.Problem](err)
	if !ok || p.Status != http.StatusInternalServerError || strings.Contains(err.Error(), "hunter2") || !strings.Contains(p.Hint, "request ") {
		t.Errorf("an internal error: %v", err)
	}
}

func TestWritesWaitForTheAuditLog(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	noc := s.user("noc", client.RoleNOC)
	s.audit.mu.Lock()
	s.audit.fail = errors.New("disk full")
	s.audit.mu.Unlock()
	if _, err := noc.AckIncident(ctx, "i-1", ""); err != nil {
		t.Fatal(err) // done, its entry is pending
	}
	if _, err := noc.AckIncident(ctx, "i-2", ""); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("a write ahead of the log: %v", err)
	}
	if _, err := noc.Incidents(ctx, ""); err != nil {
		t.Errorf("a read: %v", err)
	}
	s.audit.mu.Lock()
	s.audit.fail = nil
	s.audit.mu.Unlock()
	if _, err := noc.AckIncident(ctx, "i-3", ""); err != nil {
		t.Error(err)
	}
	if log := s.last(2); log[0].Object != "incident/i-3" || log[1].Object != "incident/i-1" {
		t.Errorf("audit %+v", log)
	}
}

func TestBackup(t *testing.T) {
	s := newSite(t)
	c := s.user("an", client.RoleAdmin)
	var out bytes.Buffer
	if n, err := c.Backup(t.Context(), "age1x", &out); err != nil || out.String() != "archive for age1x" || n != int64(out.Len()) {
		t.Errorf("%q, %v", out.String(), err)
	}
	if _, err := c.Backup(t.Context(), "bad", &out); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a bad recipient: %v", err)
	}
	if _, err := c.Backup(t.Context(), "torn", &out); err == nil {
		t.Error("half an archive looks whole")
	}
	if e := s.last(1)[0]; e.What != "create-backup" || e.Outcome != "failed" {
		t.Errorf("audit %+v", e)
	}
}

func TestEvents(t *testing.T) {
	s := newSite(t)
	for name, tt := range map[string]struct {
		role client.Role
		want []string // in any order
	}{
		"security sees decisions": {client.RoleSecurity, []string{"summary", "device", "decision", "incident", "rollout"}},
		"noc does not":            {client.RoleNOC, []string{"summary", "device", "incident", "rollout"}},
		"admin sees the summary":  {client.RoleAdmin, []string{"summary"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.user("e-"+string(tt.role), tt.role)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			seen := map[string]int{}
			err := c.Events(ctx, func(e client.Event) error {
				if seen[e.Type]++; len(seen) == 1 && seen[e.Type] == 1 { // connected: now change everything
					s.net.mu.Lock()
					s.net.devices[0].Revision++
					s.net.devices[0].TunnelsUp = 1 - s.net.devices[0].TunnelsUp%2
					s.net.incidents[0].Reopened++
					s.net.rollouts = append(s.net.rollouts, client.Rollout{ID: "r-" + name})
					s.net.decisions = append(s.net.decisions, client.Decision{ID: "x-" + name})
					s.net.mu.Unlock()
				}
				var v map[string]any
				if err := json.Unmarshal(e.Data, &v); err != nil {
					t.Errorf("%s: %v", e.Type, err)
				}
				if seen["summary"] > 1 && len(seen) == len(tt.want) {
					return context.Canceled
				}
				return nil
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v after %v", err, seen)
			}
			for _, kind := range tt.want {
				if seen[kind] == 0 {
					t.Errorf("no %s event: %v", kind, seen)
				}
			}
		})
	}
}

func TestEventsEndWithTheSession(t *testing.T) {
	s := newSite(t)
	c := s.user("lan", client.RoleNOC)
	err := c.Events(t.Context(), func(client.Event) error {
		off := true
		_, _, err := s.dir.Update(t.Context(), "lan", client.UserPatch{Disabled: &off})
		return err
	})
	if err != nil { // the server closes the stream at a heartbeat
		t.Errorf("got %v", err)
	}
}

func TestFiles(t *testing.T) {
	s := newSite(t)
	s.con.deps.Files = fstest.MapFS{
		"index.html": {Data: []byte("<html>app")}, "assets/a-1.js": {Data: []byte("js")}, ".gitignore": {Data: []byte("*")},
		"placeholder.html": {Data: []byte("none")},
	}
	h, err := s.con.files()
	if err != nil {
		t.Fatal(err)
	}
	s.srv.Config.Handler = s.con.outermost(h)
	for path, want := range map[string]struct {
		code  int
		cache string
	}{
		"/": {200, "no-cache"}, "/incidents/i-1": {200, "no-cache"}, "/assets/a-1.js": {200, "public, max-age=31536000, immutable"},
		"/assets/gone.js": {404, ""}, "/.gitignore": {404, ""}, "/../../etc/passwd.txt": {404, ""}, "/setup": {200, "no-cache"},
	} {
		res, _ := s.raw("GET", path, "", nil)
		if res.StatusCode != want.code || res.Header.Get("Cache-Control") != want.cache {
			t.Errorf("%s: %s, Cache-Control %q", path, res.Status, res.Header.Get("Cache-Control"))
		}
	}
}
