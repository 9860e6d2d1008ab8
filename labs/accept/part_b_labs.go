package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
	if err := e.needLab(); err != nil {
		return "", err
	}
	next := filepath.Join(e.dir, "wardnet-edge-next")
	r, err := e.command(ctx, "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=9.1", "-o", next, "./cmd/wardnet-edge")
	if err == nil && r.code != 0 {
		err = fmt.Errorf("exit %d: %s", r.code, tail(r.errOut, 1000))
	}
	if err != nil {
		return "", fmt.Errorf("build the next agent: %w", err)
	}
	return labRun("upgrade", "--agent", next)(ctx, e)
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
