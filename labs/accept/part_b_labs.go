package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// labUpOther brings up another lab in the place of the one before.
func labUpOther(args ...string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		idle, begin := idleSeconds(), time.Now()
		st, err := e.labUp(ctx, args...)
		if err != nil {
			return "", err
		}
		was := time.Since(begin).Seconds()
		free := (idleSeconds() - idle) / was
		return fmt.Sprintf("up in %.1f s, %d of %d tunnels, %d of %d BGP sessions, %.2f cores idle meanwhile, %s of memory available, load %s",
			st.SecondsUp, st.Tunnels.Up, st.Tunnels.Want, st.BGP.Up, st.BGP.Want, free, memoryAvailable(), loadAverage()), nil
	}
}

// labUpgrade builds the agent once more, as another version, and lets the lab
// upgrade to it.
func labUpgrade(ctx context.Context, e *env) (string, error) {
	return e.toAgent(ctx, e.root, "9.1")
}

// before is the commit of the agent that stands for the release before: the
// last one of version 0.1 that can be upgraded.
const before = "ce7c533"

// labOlderAgent builds the agent of an earlier commit and lets the lab go to it
// and come back.
func labOlderAgent(ctx context.Context, e *env) (string, error) {
	if err := e.needLab(); err != nil {
		return "", err
	}
	tree := filepath.Join(e.dir, "before")
	r, err := e.command(ctx, "git", "worktree", "add", "--detach", tree, before)
	if err == nil && r.code != 0 {
		err = fmt.Errorf("%w: commit %s is not in this checkout: %s", errNotRun, before, tail(r.errOut, 300))
	}
	if err != nil {
		return "", err
	}
	figure, err := e.toAgent(ctx, tree, "0.1.9")
	_, gone := e.command(context.WithoutCancel(ctx), "git", "worktree", "remove", "--force", tree)
	return figure, errors.Join(err, gone)
}

// toAgent builds the agent of a checkout under a version, and upgrades to it in
// the lab.
func (e *env) toAgent(ctx context.Context, tree, version string) (string, error) {
	if err := e.needLab(); err != nil {
		return "", err
	}
	next := filepath.Join(e.dir, "wardnet-edge-"+version)
	r, err := e.command(ctx, "env", "CGO_ENABLED=0", "go", "-C", tree, "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", next, "./cmd/wardnet-edge")
	if err == nil && r.code != 0 {
		err = fmt.Errorf("exit %d: %s", r.code, tail(r.errOut, 1000))
	}
	if err != nil {
		return "", fmt.Errorf("build the agent %s: %w", version, err)
	}
	if err := e.settled(ctx); err != nil {
		return "", err
	}
	return labRun("upgrade", "--agent", next)(ctx, e)
}

// settled waits until the build's load is gone: what comes is measured.
func (e *env) settled(ctx context.Context) error {
	for range 30 {
		idle, begin := idleSeconds(), time.Now()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(2 * time.Second):
		}
		if (idleSeconds()-idle)/time.Since(begin).Seconds() > 1 {
			return nil
		}
	}
	return nil // the figures tell their load
}

// Bounds of the WireGuard process, MiB.
const (
	leastRatio = 0.8
	mostMemory = 256
)

// wireguardBench compares our WireGuard process with a plain program.
func wireguardBench(ctx context.Context, e *env) (string, error) {
	r, err := e.command(ctx, "go", "test", "-tags", "lab", "-run", "^$", "-bench", "Throughput|Memory", "-benchtime", "1x", "./edge/host/wireguard")
	if err != nil {
		return "", err
	}
	got, lines := map[string]float64{}, 0
	for line := range strings.SplitSeq(r.out, "\n") {
		if !strings.HasPrefix(line, "Benchmark") {
			continue
		}
		f := strings.Fields(line)
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return "", fmt.Errorf("benchmark line %q: %w", line, err)
			}
			got[f[i+1]] = max(got[f[i+1]], v)
		}
		lines++
	}
	one, eight, peak := got["1-stream-ratio"], got["8-stream-ratio"], max(got["peak-MiB"], got["hub-peak-MiB"])
	figure := fmt.Sprintf("ratio %.2f (1 stream, %.0f Mbit/s), %.2f (8 streams, %.0f Mbit/s); at most %.0f MiB resident, a plain one %.0f",
		one, got["1-stream-Mbit/s"], eight, got["8-stream-Mbit/s"], peak, got["plain-peak-MiB"])
	if r.code != 0 || lines < 2 || one < leastRatio || eight < leastRatio || peak <= 0 || peak > mostMemory {
		return figure, fmt.Errorf("%s; wanted ratios of %.1f and at most %d MiB; exit %d\n%s", figure, leastRatio, mostMemory, r.code, tail(r.out+r.errOut, 2000))
	}
	return figure, nil
}

// idleSeconds is how long all processors together have been idle; 0 where
// nobody counts.
func idleSeconds() float64 {
	b, err := os.ReadFile("/proc/uptime")
	var up, idle float64
	if err == nil {
		_, err = fmt.Sscan(string(b), &up, &idle)
	}
	if err != nil {
		return 0
	}
	return idle
}

func memoryAvailable() string {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}
