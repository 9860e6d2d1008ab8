package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// Config says what story to tell.
type Config struct {
	Wardnet string // path of the wardnet program
	Edge    string // path of the wardnet-edge program
	Dir     string // directory of the story, made when missing
	Edges   int    // how many devices, hubs included: a smaller city; 0: the whole one
	Seed    uint64
	Faults  []Fault // default: viettel at 12 wards
	// Document is the inventory to import, City the same, decoded.
	Document []byte
	City     inventory.Inventory
	// Chaos kills the controller with SIGKILL and starts it again in the middle
	// of these chapters: "enrol", "push", "telemetry".
	Chaos    []string
	Progress io.Writer // one line per step
	// Ready is called when everything is up and the story is told; the demo
	// stays up until it returns. Nil: it ends.
	Ready func(ctx context.Context, s Stage, r *Report) error
}

// Stage is where a person can look at what the demo built.
type Stage struct {
	Console  string // URL
	User     string
	Password string // path of the file with the password, 0600
	Root     string // path of the root certificate
	Control  string // the simulator's control socket
	Dir      string
}

// story is a demo under way.
type story struct {
	cfg     Config
	rng     *rand.Rand
	serving client.Serving
	serve   *process
	sims    []*process
	control string // of the simulator with most edges

	admin, engineer, approver, security, noc *client.Client

	devices []inventory.Device
	real    map[inventory.SiteID]bool // sites whose edge is a process of its own
	healthy int                       // tunnels up before any fault
	peak    RSS
	report  Report
	began   time.Time
}

// chapters in order; each reads results only through the public API.
var chapters = []struct {
	name string
	tell func(*story, context.Context) error
}{
	{"start the controller", (*story).startController},
	{"people", (*story).makePeople},
	{"import", (*story).importCity},
	{"enrol", (*story).enrolAll},
	{"push", (*story).pushAll},
	{"access", (*story).askAccess},
	{"telemetry", (*story).settle},
	{"faults", (*story).cutCarriers},
	{"heal", (*story).heal},
}

// Run tells the story and returns its report; Report.Err says whether all of it
// held. An error means that the story could not be told to its end.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if len(cfg.Faults) == 0 {
		cfg.Faults = []Fault{{Carrier: "viettel", Wards: 12}}
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("demo directory: %w", err)
	}
	s := &story{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 208)), began: time.Now(), real: map[inventory.SiteID]bool{}}
	s.report.Seed, s.report.Load, s.report.Failures = cfg.Seed, load(), []string{}
	defer s.stopAll()
	for _, c := range chapters {
		start := time.Now()
		if err := c.tell(s, ctx); err != nil {
			return &s.report, fmt.Errorf("%s: %w", c.name, err)
		}
		s.say("%-22s %6.1f s", c.name, time.Since(start).Seconds())
		s.measure()
	}
	if err := s.conclude(ctx); err != nil {
		return &s.report, fmt.Errorf("report: %w", err)
	}
	if cfg.Ready != nil {
		stage := Stage{
			Console: "https://" + s.serving.Console, User: engineerName, Password: s.passwordFile(engineerName),
			Root: s.serving.Root, Control: s.control, Dir: cfg.Dir,
		}
		if err := cfg.Ready(ctx, stage, &s.report); err != nil && !errors.Is(err, context.Canceled) {
			return &s.report, err
		}
	}
	return &s.report, nil
}

func (s *story) say(format string, args ...any) {
	if s.cfg.Progress != nil {
		fmt.Fprintf(s.cfg.Progress, "demo %7.1f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// measure takes the highest resident memory of the processes so far.
func (s *story) measure() {
	s.peak.Controller = max(s.peak.Controller, s.serve.peakMB())
	var sims int64
	for _, p := range s.sims {
		sims += p.peakMB()
	}
	s.peak.Sim = max(s.peak.Sim, sims)
}

func (s *story) stopAll() {
	for _, p := range s.sims {
		p.stop(5 * time.Second)
	}
	s.serve.stop(10 * time.Second)
}

func (s *story) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// wait polls done every 200 ms; what it waits for is in the error when limit
// passes.
func (s *story) wait(ctx context.Context, limit time.Duration, what string, done func(context.Context) (bool, string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	state, shown := "", time.Now()
	for {
		ok, now, err := done(ctx)
		switch {
		case err == nil && ok:
			return nil
		case err == nil:
			state = now
		case ctx.Err() == nil && !errors.Is(err, client.ErrUnavailable):
			return err
		}
		if time.Since(shown) > 5*time.Second {
			s.say("  %s: %s", what, state)
			shown = time.Now()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s took over %s; last seen: %s (logs are in %s)", what, limit, state, s.cfg.Dir)
		case <-tick.C:
		}
	}
}

func (s *story) chaos(chapter string) bool {
	for _, c := range s.cfg.Chaos {
		if c == chapter {
			return true
		}
	}
	return false
}
