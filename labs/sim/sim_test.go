package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// start runs a simulator until stop.
func start(t *testing.T, edges []Edge, dir string) (control string, stop func()) {
	t.Helper()
	control = filepath.Join(dir, "control")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Edges: edges, StateDir: dir, Seed: 1, Control: control, HalfOpen: 3 * time.Second,
			Ramp: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		})
	}()
	stop = func() {
		cancel()
		if done == nil {
			return
		}
		if err := <-done; err != nil {
			t.Errorf("simulator: %v", err)
		}
		done = nil
	}
	t.Cleanup(stop)
	return control, stop
}

func send(t *testing.T, control string, req Request) Response {
	t.Helper()
	resp, err := Send(t.Context(), control, req)
	must(t, err)
	return resp
}

// tunnelsUp is how many tunnels the device itself says are up.
func tunnelsUp(ctx context.Context, d interface {
	State(context.Context) (edge.State, error)
},
) (up, all int, err error) {
	st, err := d.State(ctx)
	for _, t := range st.Tunnels {
		if t.BFD && t.BGP && t.Up {
			up++
		}
	}
	return up, len(st.Tunnels), err
}

// TestTown is the edge's whole story over real sockets: enrol, connect, be
// configured, live through a carrier's outage, and come back from a restart
// with the same identity and configuration.
func TestTown(t *testing.T) {
	edges, configs := town(3) // e-001 and e-003 have viettel only, e-002 has vnpt too
	c := newControlPlane(t)
	c.admit(edges)
	dir := t.TempDir()
	control, stop := start(t, edges, dir)
	for i := range edges {
		c.driver(edges[i].Device) // all enrolled before anybody's peers are pushed
	}
	for _, cfg := range configs {
		c.push(cfg, 1)
	}
	eventually(t, 15*time.Second, func() error {
		s := send(t, control, Request{Op: OpStats}).Stats
		if s.Tunnels != 16 || s.TunnelsUp != 16 || s.Connected != 5 || s.Enrolled != 5 {
			return fmt.Errorf("stats %+v, want 16 tunnel ends up", s)
		}
		return nil
	})

	// The carrier fails at two wards.
	got := send(t, control, Request{Op: OpCut, Carrier: "viettel", Sites: []inventory.SiteID{"s-001", "s-002"}})
	if fmt.Sprint(got.Circuits) != "[c-001-a c-002-a]" {
		t.Errorf("cut %v", got.Circuits)
	}
	eventually(t, 10*time.Second, func() error {
		up, all, err := tunnelsUp(t.Context(), c.driver("hub-1"))
		if err == nil && (up != 2 || all != 4) {
			err = fmt.Errorf("hub-1 has %d of %d tunnels up, want 2 of 4", up, all)
		}
		return err
	})
	eventually(t, 20*time.Second, func() error { // over its other circuit
		up, all, err := tunnelsUp(t.Context(), c.driver("e-002"))
		if err == nil && (up != 2 || all != 4) {
			err = fmt.Errorf("e-002 has %d of %d tunnels up, want 2 of 4", up, all)
		}
		return err
	})
	eventually(t, 10*time.Second, func() error { // no circuit left: silence
		if conn, err := c.channel.Conn("e-001"); err == nil {
			return fmt.Errorf("e-001 is still connected: %v", conn.Target())
		}
		return nil
	})
	send(t, control, Request{Op: OpHeal})
	eventually(t, 30*time.Second, func() error {
		up, all, err := tunnelsUp(t.Context(), c.driver("e-001"))
		if err == nil && (up != 2 || all != 2) {
			err = fmt.Errorf("e-001 has %d of %d tunnels up after the heal", up, all)
		}
		return err
	})

	// A restart needs no token and no push.
	stop()
	for i := range edges {
		edges[i].Bundle = nil
	}
	control, _ = start(t, edges, dir)
	eventually(t, 15*time.Second, func() error {
		resp, err := Send(t.Context(), control, Request{Op: OpStats})
		if err != nil {
			return err
		}
		s := resp.Stats
		if s.TunnelsUp != 16 || s.Connected != 5 {
			return fmt.Errorf("stats after the restart: %+v", s)
		}
		return nil
	})
	run, err := c.driver("e-003").Running(t.Context())
	if err != nil || run.Revision != 1 || run.Hash != configs[4].Hash() {
		t.Errorf("e-003 runs revision %d after the restart, %v", run.Revision, err)
	}
	certs, err := c.pki.List(t.Context())
	must(t, err)
	devices := 0
	for _, cert := range certs {
		if cert.Device != "" {
			devices++
		}
	}
	if devices != 5 {
		t.Errorf("%d device certificates were issued, want 5: nobody enrols twice", devices)
	}
}

func TestControlRefusals(t *testing.T) {
	edges, _ := town(1)
	edges[2].Bundle = nil
	f := &fleet{cfg: Config{Edges: edges, Log: slog.New(slog.DiscardHandler)}}
	var err error
	f.under, err = newUnderlay(f.cfg)
	must(t, err)
	path := filepath.Join(t.TempDir(), "ctl")
	stop, err := f.listen(path)
	must(t, err)
	defer stop()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := f.listen(path); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("second simulator on the socket: %v", err)
	}
	for _, req := range []Request{
		{Op: "explode"},
		{Op: OpCut},
		{Op: OpCut, Circuit: "nowhere"},
		{Op: OpCut, Circuit: "h1", Carrier: "tsl"},
		{Op: OpImpair, Circuit: "h1", LossRatio: 2},
	} {
		if resp, err := Send(t.Context(), path, req); err == nil {
			t.Errorf("%+v was accepted: %+v", req, resp)
		}
	}
	if resp := send(t, path, Request{Op: OpCut, Carrier: "nobody"}); len(resp.Circuits) != 0 {
		t.Errorf("a carrier without circuits here: %+v", resp)
	}
	// A line that is no request gets an answer too.
	conn, err := net.Dial("unix", path)
	must(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("garbage\n"))
	must(t, err)
	var resp Response
	if err := json.NewDecoder(conn).Decode(&resp); err != nil || resp.Error == "" {
		t.Errorf("garbage: %+v, %v", resp, err)
	}
}

func TestValidateListsAllFaults(t *testing.T) {
	edges, _ := town(2)
	edges[1].Device = "../up"
	edges[2].Role = "king"
	edges[3].Circuits = edges[2].Circuits
	err := File{Edges: edges}.Validate()
	if !errors.Is(err, inventory.ErrInvalid) || len(err.(interface{ Unwrap() []error }).Unwrap()) != 3 {
		t.Errorf("validate: %v, want three faults", err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	edges, _ := town(2)
	path := filepath.Join(t.TempDir(), "edges.json")
	must(t, File{Edges: edges}.Save(path))
	file, err := Load(path)
	must(t, err)
	if len(file.Edges) != 4 || file.Edges[3].Circuits[1].Carrier != "vnpt" {
		t.Errorf("loaded %+v", file)
	}
	must(t, os.Chmod(path, 0o640))
	if _, err := Load(path); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a file that others may read: %v", err)
	}
}

// FuzzParse: any text is refused or gives a file that is valid and stable.
func FuzzParse(f *testing.F) {
	edges, _ := town(2)
	seed, _ := json.Marshal(File{Edges: edges})
	f.Add(seed)
	f.Add([]byte(`{"edges":[{"device":"e","role":"edge","circuits":[{"id":"c"}]}]}`))
	f.Add([]byte(`{"edges":[{"device":""}],"x":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, inventory.ErrInvalid) {
				t.Fatalf("error is not ErrInvalid: %v", err)
			}
			return
		}
		again, err := json.Marshal(file)
		must(t, err)
		if _, err := Parse(bytes.NewReader(again)); err != nil {
			t.Fatalf("accepted once, refused again: %v", err)
		}
	})
}
