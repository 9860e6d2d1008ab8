package sim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Ops of a [Request].
const (
	OpCut    = "cut"    // nothing passes
	OpHeal   = "heal"   // ends cuts and impairments
	OpImpair = "impair" // adds loss and latency
	OpFlap   = "flap"   // drops management connections at random, at a ratio per minute
	OpStats  = "stats"
)

const (
	maxRequest = 1 << 20 // bytes in one line
	idle       = time.Minute
)

// Request is one line to the control socket. A fault is either for one circuit
// or for all circuits of a carrier, at the given sites or everywhere.
type Request struct {
	Op        string              `json:"op"`
	Circuit   inventory.CircuitID `json:"circuit,omitempty"`
	Carrier   inventory.CarrierID `json:"carrier,omitempty"`
	Sites     []inventory.SiteID  `json:"sites,omitempty"`
	LossRatio float64             `json:"loss_ratio,omitempty"` // in [0,1]
	LatencyMS float64             `json:"latency_ms,omitempty"` // added round trip
	// Ratio of all edges is dropped per minute from now on, in [0,1]; OpFlap only.
	Ratio float64 `json:"ratio,omitempty"`
}

// Response is the line that answers it. Fleets may be spread over processes, so
// a carrier or site without circuits here is no error: Circuits is empty.
type Response struct {
	Error    string                `json:"error,omitempty"`
	Circuits []inventory.CircuitID `json:"circuits,omitempty"` // that the fault was put on
	Stats    *Stats                `json:"stats,omitempty"`
}

// Stats of a simulator.
type Stats struct {
	Edges      int     `json:"edges"`
	Enrolled   int     `json:"enrolled"`
	Connected  int     `json:"connected"` // management channels that the controller uses
	Failed     int     `json:"failed"`    // edges that do not run
	Dropped    int     `json:"dropped"`   // connections dropped on purpose, see Config.Flap
	Tunnels    int     `json:"tunnels"`   // tunnel ends configured here
	TunnelsUp  int     `json:"tunnels_up"`
	Goroutines int     `json:"goroutines"`
	RSSMB      float64 `json:"rss_mb"` // resident memory of the process, MiB
}

// do carries out one request.
func (f *fleet) do(req Request) (Response, error) {
	ids := []inventory.CircuitID{req.Circuit}
	switch {
	case req.Op == OpStats:
		s, err := f.stats()
		return Response{Stats: &s}, err
	case req.Op == OpFlap:
		return Response{}, f.setFlap(req.Ratio)
	case req.Op != OpCut && req.Op != OpHeal && req.Op != OpImpair:
		return Response{}, fmt.Errorf("%w: op %q is not cut, heal, impair, flap or stats", inventory.ErrInvalid, req.Op)
	case req.Circuit != "" && (req.Carrier != "" || len(req.Sites) > 0):
		return Response{}, fmt.Errorf("%w: give a circuit, or a carrier and sites", inventory.ErrInvalid)
	case req.Circuit == "" && req.Carrier == "" && len(req.Sites) == 0 && req.Op != OpHeal:
		return Response{}, fmt.Errorf("%w: %s what? give a circuit, a carrier or sites", inventory.ErrInvalid, req.Op)
	case req.Circuit == "":
		ids = f.under.Select(req.Carrier, req.Sites)
	}
	var err error
	switch req.Op {
	case OpCut:
		err = f.under.Cut(ids...)
	case OpHeal:
		err = f.under.Heal(ids...)
	case OpImpair:
		err = f.under.Impair(req.LossRatio, req.LatencyMS, ids...)
	}
	if err != nil {
		return Response{}, err
	}
	f.cfg.Log.Info("fault", "op", req.Op, "circuits", len(ids))
	return Response{Circuits: ids}, nil
}

func (f *fleet) stats() (Stats, error) {
	s := Stats{
		Edges:      len(f.cfg.Edges),
		Enrolled:   int(f.enrolled.Load()),
		Connected:  int(f.connected.Load()),
		Failed:     int(f.failed.Load()),
		Dropped:    int(f.dropped.Load()),
		Goroutines: runtime.NumGoroutine(),
	}
	s.Tunnels, s.TunnelsUp = f.under.Tunnels()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return s, fmt.Errorf("read resident memory: %w", err)
	}
	var size, resident float64 // pages
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return s, fmt.Errorf("read resident memory: %w", err)
	}
	s.RSSMB = resident * float64(os.Getpagesize()) / (1 << 20)
	return s, nil
}

// listen opens the control socket for the owner alone; stop ends it and the
// connections on it.
func (f *fleet) listen(path string) (stop func(), err error) {
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("%w: control socket %s is in use by another simulator", inventory.ErrConflict, path)
	}
	// Made in a private directory and moved, so that nobody can connect between
	// bind and chmod.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".ctl-*")
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, 0o600), os.Rename(tmp, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), ln.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f.converse(ctx, c) })
		}
	})
	return func() {
		cancel()
		_ = ln.Close()
		_ = os.Remove(path)
		wg.Wait()
	}, nil
}

// converse answers the requests of one connection.
func (f *fleet) converse(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	lines := bufio.NewScanner(c)
	lines.Buffer(nil, maxRequest)
	for {
		_ = c.SetDeadline(time.Now().Add(idle))
		if !lines.Scan() {
			return
		}
		var req Request
		var resp Response
		err := json.Unmarshal(lines.Bytes(), &req)
		if err == nil {
			resp, err = f.do(req)
		}
		if err != nil {
			resp.Error = err.Error()
		}
		if json.NewEncoder(c).Encode(resp) != nil {
			return
		}
	}
}

// Send asks the simulator at the control socket path.
func Send(ctx context.Context, path string, req Request) (Response, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return Response{}, fmt.Errorf("simulator at %s: %w; is it running?", path, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	var resp Response
	if err := json.NewEncoder(c).Encode(req); err != nil {
		return Response{}, fmt.Errorf("simulator at %s: %w", path, err)
	}
	if err := json.NewDecoder(c).Decode(&resp); err != nil {
		return Response{}, fmt.Errorf("simulator at %s: %w", path, errors.Join(context.Cause(ctx), err))
	}
	if resp.Error != "" {
		return resp, fmt.Errorf("simulator at %s: %s: %s", path, req.Op, resp.Error)
	}
	return resp, nil
}
