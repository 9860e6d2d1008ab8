// Command accept runs the acceptance checks of the named parts with the real
// binaries and writes docs/acceptance.json: the newest run of each part.
// A figure in that file was measured by the run it stands in.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/wardnet/wardnet/labs/demo"
)

// Acceptance is the whole file.
type Acceptance struct {
	Runs []Run `json:"runs"`
}

// Run is the newest run of one part.
type Run struct {
	Part    string `json:"part"`
	Commit  string `json:"commit"`
	Date    string `json:"date"` // RFC 3339, UTC
	Machine string `json:"machine"`
	Load    string `json:"load"` // 1-minute load average at the start
	// Resumed are the checks at which the run went on after it was cut off.
	Resumed []string `json:"resumed,omitempty"`
	Checks  []Result `json:"checks"`
}

// Result is one check's outcome.
type Result struct {
	ID     string `json:"id"`
	State  string `json:"state"` // passed, failed, not_run
	Figure string `json:"figure,omitempty"`
	Target string `json:"target,omitempty"`
	Why    string `json:"why,omitempty"`
}

// check is one thing a part promises. run returns what it measured; an error
// is why it failed, errNotRun why it could not be tried here.
type check struct {
	id     string
	target string
	run    func(ctx context.Context, e *env) (figure string, err error)
}

var errNotRun = errors.New("not run")

// parts are the checks by part; a part's file holds its list.
var parts = map[string][]check{"A": partA, "B": partB, "C": partC, "D": partD}

func main() {
	part := flag.String("part", "A", "parts to run, e.g. A or A,B")
	out := flag.String("out", "docs/acceptance.json", "file to write")
	only := flag.String("only", "", "run only checks whose id contains this; nothing is written")
	from := flag.String("from", "", "go on with a run of this commit that was cut off: keep the results before the check with this id and start there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *part, *out, choice{*only, *from}); err != nil {
		fmt.Fprintln(os.Stderr, "accept: error:", err)
		os.Exit(1)
	}
}

// choice is which checks to run.
type choice struct {
	only string // those whose id contains it; nothing is written
	from string // this one and those after it; empty: all
}

func run(ctx context.Context, part, out string, which choice) error {
	var doc Acceptance
	raw, err := os.ReadFile(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(raw, &doc); err != nil {
			return fmt.Errorf("read %s: %w", out, err)
		}
	}
	failed := 0
	for name := range strings.SplitSeq(part, ",") {
		checks, ok := parts[name]
		if !ok {
			return fmt.Errorf("part %q is not known", name)
		}
		keep := func(r Run) error { // after every check: a run that is cut off leaves what it has
			if which.only != "" {
				return nil
			}
			doc.Runs = slices.DeleteFunc(doc.Runs, func(o Run) bool { return o.Part == name })
			doc.Runs = append(doc.Runs, r)
			return save(out, doc)
		}
		r, city, err := runPart(ctx, name, checks, which, earlier(doc, name), keep)
		if err != nil {
			return err
		}
		if which.only == "" {
			if err := performance(filepath.Dir(out), r, city); err != nil {
				return err
			}
		}
		for _, c := range r.Checks {
			if c.State == "failed" {
				failed++
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}

func save(out string, doc Acceptance) error {
	raw, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(raw, '\n'), 0o644)
}

// earlier is the run of a part that the file holds.
func earlier(doc Acceptance, part string) Run {
	i := slices.IndexFunc(doc.Runs, func(r Run) bool { return r.Part == part })
	if i < 0 {
		return Run{}
	}
	return doc.Runs[i]
}

// goOn continues was, a run of the same commit and the same checks, at the check
// called from; it returns how many checks are behind it.
func goOn(r *Run, was Run, checks []check, from string) (int, error) {
	n := slices.IndexFunc(checks, func(c check) bool { return c.id == from })
	if n < 0 {
		return 0, fmt.Errorf("part %s has no check %q", r.Part, from)
	}
	if was.Commit != r.Commit || len(was.Checks) < n {
		return 0, fmt.Errorf("the run of part %s in the file is of commit %.12s and has %d checks; it cannot go on at %s of commit %.12s", r.Part, was.Commit, len(was.Checks), from, r.Commit)
	}
	for i, c := range checks[:n] {
		if was.Checks[i].ID != c.id {
			return 0, fmt.Errorf("the run of part %s in the file has %s where %s should be", r.Part, was.Checks[i].ID, c.id)
		}
	}
	r.Checks = slices.Clone(was.Checks[:n])
	r.Resumed = append(was.Resumed, from)
	return n, nil
}

func runPart(ctx context.Context, name string, checks []check, which choice, was Run, keep func(Run) error) (Run, *demo.Report, error) {
	e, err := newEnv()
	if err != nil {
		return Run{}, nil, err
	}
	defer e.close()
	r := Run{Part: name, Commit: commit(ctx), Date: time.Now().UTC().Format(time.RFC3339), Machine: machine(), Load: e.load}
	behind := 0
	if which.from != "" {
		if behind, err = goOn(&r, was, checks, which.from); err != nil {
			return r, nil, err
		}
	}
	for i, c := range checks {
		if i < behind || !strings.Contains(c.id, which.only) {
			continue
		}
		start := time.Now()
		fmt.Fprintf(os.Stderr, "accept: %s %d/%d %s …\n", name, i+1, len(checks), c.id)
		res := Result{ID: c.id, Target: c.target, State: "passed"}
		res.Figure, err = c.run(ctx, e)
		switch {
		case errors.Is(err, errNotRun):
			res.State, res.Why = "not_run", err.Error()
		case err != nil:
			res.State, res.Why = "failed", err.Error()
		}
		fmt.Fprintf(os.Stderr, "accept: %s %s %s (%.1f s) %s %s\n", name, c.id, res.State, time.Since(start).Seconds(), res.Figure, res.Why)
		if ctx.Err() != nil {
			return r, nil, fmt.Errorf("interrupted in %s; the checks before it are written", c.id)
		}
		r.Checks = append(r.Checks, res)
		if err := keep(r); err != nil {
			return r, nil, err
		}
	}
	return r, e.city, nil
}

// commit is the checkout's last commit, marked when there are changes besides
// the acceptance file itself.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	id := strings.TrimSpace(string(out))
	dirty, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--", ".", ":!docs").Output()
	if err != nil || len(dirty) > 0 {
		id += "+changes"
	}
	return id
}

func machine() string {
	model := ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores, %s, %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}
