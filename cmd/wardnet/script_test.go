package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

// TestScript runs every verb as a person would: the real program against a real
// "wardnet serve". See testdata/script/README for the commands beside
// testscript's own.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Values[stageKey{}] = &stage{}
			city, err := os.ReadFile(filepath.Join("testdata", "city.yaml"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "city.yaml"), city, 0o600)
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, errors.New("unknown condition " + cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": cmdServe, "halt": cmdHalt, "cli": cmdCLI, "as": cmdAs, "code": cmdCode,
			"retry": cmdRetry, "keep": cmdKeep, "big": cmdBig, "set": cmdSet,
		},
		RequireUniqueNames: true,
	})
}

type stageKey struct{}

// stage is what a script has going.
type stage struct {
	center *center
	code   int // of the last cli or as
}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

// cmdServe is "serve": a controller with its data below $WORK and an
// administrator; "as" makes the crew when it is needed. "serve bare" leaves the one-time link alone.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	s := stageOf(ts)
	if neg || len(args) > 1 {
		ts.Fatalf("usage: serve [bare]")
	}
	c, err := startCenter(ts.MkAbs("."))
	ts.Check(err)
	s.center = c
	ts.Defer(func() { ts.Check(c.stop()) })
	ts.Setenv("SERVER", "https://"+c.serving.Console)
	ts.Setenv("ROOT", c.serving.Root)
	if len(args) == 0 && c.serving.Setup != "" {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		ts.Check(c.first(ctx))
	}
}

func cmdHalt(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(stageOf(ts).center.stop()) }

// cmdCLI is "cli ARGS…": wardnet with nothing added.
func cmdCLI(ts *testscript.TestScript, neg bool, args []string) {
	judge(ts, neg, call(ts, args))
}

// cmdAs is "as USER ARGS…": wardnet against the script's controller as USER.
func cmdAs(ts *testscript.TestScript, neg bool, args []string) {
	judge(ts, neg, call(ts, asUser(ts, args)))
}

func asUser(ts *testscript.TestScript, args []string) []string {
	if len(args) < 2 || stageOf(ts).center == nil {
		ts.Fatalf("usage: serve first, then: as USER ARGS…")
	}
	c := stageOf(ts).center
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ts.Check(c.hire(ctx, args[0]))
	return append(append([]string{}, args[1:]...), c.as(args[0])...)
}

func call(ts *testscript.TestScript, args []string) error {
	err := ts.Exec("wardnet", args...)
	stageOf(ts).code = 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		stageOf(ts).code = exit.ExitCode()
	}
	return err
}

func judge(ts *testscript.TestScript, neg bool, err error) {
	switch {
	case err != nil && !neg:
		ts.Fatalf("unexpected failure: %v", err)
	case err == nil && neg:
		ts.Fatalf("unexpected success")
	}
}

// cmdCode is "code N": the exit code of the last cli or as.
func cmdCode(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 || strconv.Itoa(stageOf(ts).code) != args[0] {
		ts.Fatalf("exit code %d, want %v", stageOf(ts).code, args)
	}
}

// cmdRetry is "retry as USER ARGS…", until it succeeds or, after "!", fails.
func cmdRetry(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 || args[0] != "as" {
		ts.Fatalf("usage: retry as USER ARGS…")
	}
	args = asUser(ts, args[1:])
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(20 * time.Second); ; {
		if err := call(ts, args); (err != nil) == neg {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			ts.Fatalf("still not so after 20 s")
		}
	}
}

// cmdKeep is "keep FILE": the last standard output as a file for its owner only.
func cmdKeep(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.ReadFile("stdout")), 0o600))
}

// cmdSet is "set NAME REGEXP": $NAME is the regexp's first group in the last
// standard output.
func cmdSet(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: set NAME REGEXP")
	}
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("no %q in the output", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// cmdBig is "big FILE": 200 MB of a document that begins well, most of it a hole.
func cmdBig(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("apiVersion: wardnet/v1\nkind: Inventory\norg: hcmc\n"), 0o600))
	ts.Check(os.Truncate(ts.MkAbs(args[0]), 200<<20))
}

// TestCityIsTheSampleInSmall keeps testdata/city.yaml true to the sample.
func TestCityIsTheSampleInSmall(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "city.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	small, err := inventory.Decode("city.yaml", f)
	if err != nil {
		t.Fatal(err)
	}
	if len(small.Devices) != 4 {
		t.Errorf("%d devices, want 4", len(small.Devices))
	}
	added := 0
	for _, n := range inventory.Merge(sample.City(), small).Count() {
		added += n
	}
	for _, n := range sample.City().Count() {
		added -= n
	}
	if added != 0 {
		t.Errorf("testdata/city.yaml has %d elements that the sample does not have", added)
	}
}
