package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/wardnet/wardnet/labs/demo"
)

// env is what the checks of one run share: the built binaries and a directory
// that goes away.
type env struct {
	root string // checkout
	dir  string // scratch
	load string
	city *demo.Report // of the city's run, for the checks of its figures
}

func newEnv() (*env, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for _, bin := range []string{"wardnet", "wardnet-edge"} {
		if _, err := os.Stat(filepath.Join(root, "bin", bin)); err != nil {
			return nil, fmt.Errorf("bin/%s is missing; run 'make build' first: %w", bin, err)
		}
	}
	dir, err := os.MkdirTemp("", "wardnet-accept-")
	if err != nil {
		return nil, err
	}
	return &env{root: root, dir: dir, load: loadAverage()}, nil
}

// close takes down a lab that a check left, which an interrupted run does, and
// removes the directory.
func (e *env) close() {
	if e.needLab() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if r, err := e.command(ctx, "bin/wardnet", "lab", "down", "--dir", e.labDir()); err != nil || r.code != 0 {
			fmt.Fprintf(os.Stderr, "accept: the lab in %s is still there: %v %s\n", e.labDir(), err, r.errOut)
			return
		}
	}
	_ = os.RemoveAll(e.dir)
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	f := strings.Fields(string(b))
	return f[0]
}

// result of a command.
type result struct {
	code        int
	out, errOut string
}

// command runs argv in the checkout and waits.
func (e *env) command(ctx context.Context, argv ...string) (result, error) {
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = e.root, &out, &errOut
	err := cmd.Run()
	r := result{out: out.String(), errOut: errOut.String()}
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		r.code = ee.ExitCode()
		return r, nil
	}
	return r, err
}

// tests runs the Go tests that match pattern and fails unless at least one ran,
// all passed, and none was skipped.
func (e *env) tests(ctx context.Context, pattern string, args ...string) (string, error) {
	r, err := e.command(ctx, append([]string{"go", "test", "-count=1", "-v", "-run", pattern}, args...)...)
	if err != nil {
		return "", err
	}
	passed, skipped := strings.Count(r.out, "--- PASS"), strings.Count(r.out, "--- SKIP")
	if r.code != 0 || passed == 0 || skipped > 0 {
		return "", fmt.Errorf("go test -run %s %s: exit %d, %d passed, %d skipped\n%s", pattern, strings.Join(args, " "), r.code, passed, skipped, tail(r.out+r.errOut, 2000))
	}
	return fmt.Sprintf("%d tests passed", passed), nil
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
