package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/wardnet/wardnet/labs/demo"
)

// partA is the main job, end to end. The whole story is told once and its
// figures are checked one by one.
var partA = []check{
	{"demo-city", "208 edges: the whole story holds", func(ctx context.Context, e *env) (string, error) {
		r, err := e.demo(ctx, "--seed", "1")
		e.city = r
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d sites, %d in sync, %d of %d tunnels up, %d samples, load %s", r.Sites, r.InSync, r.TunnelsUp, r.Tunnels, r.Samples, r.Load), nil
	}},
	{"demo-total", "under 180 s", figure(func(r *demo.Report) (float64, string) { return r.Seconds.Total, "s" }, 180)},
	{"demo-enrol", "208 enrolments under 30 s", figure(func(r *demo.Report) (float64, string) { return r.Seconds.Enrol, "s" }, 30)},
	{"demo-push", "all sites in 4 ward waves under 60 s", figure(func(r *demo.Report) (float64, string) { return r.Seconds.Push, "s" }, 60)},
	{"demo-detect", "fault to incident under 30 s", figure(func(r *demo.Report) (float64, string) { return r.Seconds.Detect, "s" }, 30)},
	{"demo-memory", "controller under 600 MB resident", figure(func(r *demo.Report) (float64, string) { return float64(r.RSSMB.Controller), "MB" }, 600)},
	{"demo-other-seed", "another seed, carrier and 9 wards", demoHolds("--seed", "7", "--fault", "carrier=fpt,wards=9")},
	{"demo-two-carriers", "two carriers cut 40 s apart give two incidents", demoHolds("--seed", "3", "--fault", "carrier=viettel,wards=12", "--fault", "carrier=vnpt,wards=12,after=40s")},
	{"demo-sigkill", "SIGKILL of the controller in enrolment, push and telemetry: converges, nobody enrols twice, no answered decision is missing", demoHolds("--seed", "5", "--chaos", "enrol,push,telemetry")},
	{"store-power-cut", "cut at every write and sync: every acknowledged write found, no half write", goTests("./internal/store", "PowerCut|CutAt|PowerLoss")},
	{"store-sigkill", "50 SIGKILLs in a write loop: every acknowledged write found", goTests("./internal/store", "Killed")},
	{"store-two-engines", "one conformance suite on SQLite and PostgreSQL 15", goTests("./internal/store", ".")},
	{"edge-power-cut", "the agent's state at every write: old or new config", goTests("./edge/agent", "PowerLoss|Crash")},
	{"pki-refusals", "reused, expired, foreign tokens; other serial; wrong issuer; two names: refused, audited, counted", goTests("./pki", ".")},
	{"refusals", "an attacker at the real sockets: refused, audited, counted; a revocation closes the open channel within 5 s", refusals},
	{"channel-refusals", "strangers, wrong protocol, revoked and superseded sessions", goTests("./edge/channel", ".")},
	{"bad-input", "one error with all faults, exit code 2, nothing changed", badInput},
	{"backup-restore", "while running, encrypted, onto an empty machine; later revocations kept", goTests("./cmd/wardnet", "Backup")},
	{"console-journey", "headless Chromium: sign in, a fault appears, open the incident", func(ctx context.Context, e *env) (string, error) {
		r, err := e.command(ctx, "bash", "scripts/browser.sh", "docs/screenshots")
		if err != nil {
			return "", err
		}
		if r.code != 0 {
			return "", fmt.Errorf("exit %d: %s", r.code, tail(r.out+r.errOut, 2000))
		}
		return tail(r.out, 200), nil
	}},
}

// demo tells the story and returns its report; every failure of it is an error.
func (e *env) demo(ctx context.Context, args ...string) (*demo.Report, error) {
	r, err := e.command(ctx, append([]string{"bin/wardnet", "demo", "--once", "--json"}, args...)...)
	if err != nil {
		return nil, err
	}
	var rep demo.Report
	if err := json.Unmarshal([]byte(r.out), &rep); err != nil {
		return nil, fmt.Errorf("the demo printed no report (exit %d): %s", r.code, tail(r.errOut, 2000))
	}
	if r.code != 0 || !rep.OK {
		return &rep, fmt.Errorf("exit %d: %v: %s", r.code, rep.Failures, tail(r.errOut, 1000))
	}
	return &rep, nil
}

func demoHolds(args ...string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		r, err := e.demo(ctx, args...)
		if err != nil {
			return "", err
		}
		causes := ""
		for _, i := range r.Incidents {
			causes += fmt.Sprintf(" %s (%d)", i.Cause, i.Members)
		}
		return fmt.Sprintf("incidents:%s; detect %.1f s, total %.1f s, %d + %d decisions", causes, r.Seconds.Detect, r.Seconds.Total, r.Decisions.Allow, r.Decisions.Deny), nil
	}
}

// figure checks one measured number of the city's run against its bound.
func figure(of func(*demo.Report) (float64, string), below float64) func(context.Context, *env) (string, error) {
	return func(_ context.Context, e *env) (string, error) {
		if e.city == nil {
			return "", fmt.Errorf("%w: the city's run gave no report", errNotRun)
		}
		v, unit := of(e.city)
		return under(v, below, unit)
	}
}

func goTests(pkg, pattern string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) { return e.tests(ctx, pattern, pkg) }
}
