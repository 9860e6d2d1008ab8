package console

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
)

// operations lists what the OpenAPI document offers.
func operations(s *site) map[string]*huma.Operation {
	out := map[string]*huma.Operation{}
	for path, item := range s.con.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "PUT": item.Put, "POST": item.Post, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op != nil {
				op.Method, op.Path = method, path
				out[op.OperationID] = op
			}
		}
	}
	return out
}

func TestTableMatchesTheDocument(t *testing.T) {
	s := newSite(t)
	ops := operations(s)
	for id := range ops {
		if _, ok := access[id]; !ok {
			t.Errorf("operation %s has no row", id)
		}
	}
	for id, roles := range access {
		if ops[id] == nil {
			t.Errorf("row %s has no operation", id)
		}
		for _, r := range roles {
			if !slices.Contains(people.AllRoles, r) {
				t.Errorf("row %s names the unknown role %s", id, r)
			}
		}
	}
	for kind, id := range eventAccess {
		if ops[id] == nil {
			t.Errorf("event %s is guarded by %s, which is not served", kind, id)
		}
	}
	res, _ := s.raw("GET", "/api/v1/openapi.json", "", nil)
	if res.StatusCode != http.StatusOK {
		t.Errorf("the document: %s", res.Status)
	}
	b, err := json.Marshal(s.con.OpenAPI())
	if err != nil || !strings.Contains(string(b), `"openapi":"3.1.0"`) {
		t.Errorf("%v, %.80s", err, b)
	}
	for _, name := range []string{"Device", "InventoryDevice", "Problem", "Rollout", "Incident", "Session"} {
		if s.con.OpenAPI().Components.Schemas.Map()[name] == nil {
			t.Errorf("the document has no schema %s", name)
		}
	}
}

// Admin manages people and nothing else; each write of the network needs its
// role. The whole table is tried over HTTP with every role and with nobody.
func TestEveryRoleOnEveryOperation(t *testing.T) {
	s := newSite(t)
	secret := map[client.Role]string{}
	for _, role := range people.AllRoles {
		c := s.user("u-"+string(role), role)
		tok, err := c.CreateToken(t.Context(), client.NewToken{Name: "t", Scopes: []client.Role{role}, Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		secret[role] = tok.Secret
	}
	for id, op := range operations(s) {
		if isPublic(id) || id == "list-events" {
			continue
		}
		path := Prefix + strings.NewReplacer("{id}", "none", "{n}", "999", "{name}", "none", "{serial}", "none").Replace(op.Path)
		res, _ := s.raw(op.Method, path, "{", nil)
		if res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without anybody: %s", id, res.Status)
		}
		for _, role := range people.AllRoles {
			// A body that cannot be parsed: what may enter is refused as malformed.
			res, p := s.raw(op.Method, path, "{", map[string]string{"Authorization": "Bearer " + secret[role], "Content-Type": "application/json"})
			allowed, forbidden := slices.Contains(access[id], role), res.StatusCode == http.StatusForbidden && strings.Contains(p.Detail, "may not")
			if allowed == forbidden {
				t.Errorf("%s as %s: %s %s, allowed should be %t", id, role, res.Status, p.Detail, allowed)
			}
			if forbidden && p.Hint == "" {
				t.Errorf("%s as %s: no hint", id, role)
			}
		}
	}
	for _, id := range []string{"put-inventory", "start-rollout", "revoke-certificate", "approve-revision", "ack-incident"} {
		if slices.Contains(access[id], client.RoleAdmin) {
			t.Errorf("an administrator may %s", id)
		}
	}
}

func TestBreakGlass(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(t.TempDir(), "w.sock")
	l, err := ListenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(t.Context(), path); err == nil {
		t.Error("two servers on one socket")
	}
	srv := s.con.Server()
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	peer := func() *people.Peer { // who this test is to the kernel
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return people.PeerOf(people.WithPeer(t.Context(), conn))
	}()
	c, err := client.New(client.Config{Server: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	session, err := c.Session(t.Context())
	if peer.UID != 0 { // an ordinary user is nobody here
		if err == nil {
			t.Errorf("uid %d is %+v", peer.UID, session)
		}
		return
	}
	if err != nil || session.User.Name != people.BreakGlassName || len(session.User.Roles) != len(people.AllRoles) {
		t.Fatalf("%+v, %v", session, err)
	}
	if _, err := c.AckIncident(t.Context(), "i-1", ""); err != nil {
		t.Error(err)
	}
	if len(s.glass) != 1 {
		t.Errorf("%d alarms for one connection", len(s.glass))
	}
	log := s.last(2)
	if log[0].What != "ack-incident" || log[0].Who != people.BreakGlassName || log[0].From != "unix" || log[1].What != "break-glass" {
		t.Errorf("audit %+v", log)
	}
	// No alarm, no access.
	s.audit.mu.Lock()
	s.audit.fail = fmt.Errorf("disk full: %w", io.ErrShortWrite)
	s.audit.mu.Unlock()
	other, err := client.New(client.Config{Server: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Session(t.Context()); err == nil {
		t.Error("root came in without an alarm")
	}
}
