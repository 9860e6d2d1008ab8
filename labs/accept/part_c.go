package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// partC is the controller: so far its plans and proofs.
var partC = []check{
	{"proof-kernel", "the filters' model and the kernel agree about every packet", labTests("./controller/proof/nft", ".")},
	{"proof-packets", "towns damaged at random: where the proof holds, single packets do as the inventory says; every counterexample is a packet", controllerTests("TestProof|TestTown", "-towns=300")},
	// The test itself takes the default of 100 for "no wish", and does a few.
	{"proof-incremental", "what is remembered changes nothing in what is proven", controllerTests("TestIncremental", "-rapid.checks=101")},
	{"rollout-machine", "1,000 random stories of the rollout engine: revisions, faults, changes by hand, crashes at any write and call, lost replies of devices and of the store", controllerTests("^TestMachine$", "-rapid.checks=1000", "-timeout=60m")},
	{"plan-city", "compile, render, read, prove and compare 208 sites under 3 s", planBench("sites=206/first", 3, 0)},
	{"plan-city-one-site", "after a change at one site under 200 ms", planBench("sites=206/one-site", 0.2, 0)},
	{"plan-nation", "the same of 3,321 sites under 20 s and 1 GB", planBench("sites=3321/first", 20, 1000)},
	{"plan-nation-one-site", "after a change at one site under 1 s", planBench("sites=3321/one-site", 1, 0)},
	{"driver-cli", "the drivers' contract against FRR by SSH with certificates; prompts, garbage, cut answers, dropped sessions, another device", labTests("./edge/cli", ".")},
	{"driver-netconf", "the drivers' contract against netconfd by SSH; locks, dropped commits, the device's own return", labTests("./edge/netconf", ".")},
	{"driver-openconfig", "the drivers' contract against a gNMI device with every quirk on its own", labTests("./edge/openconfig ./edge/foreign", ".")},
	{"rollout-208", "208 simulated edges in 4 verified ward waves after the hubs' under 60 s", rollout208},
	{"lab-up", "2 hubs + 3 wards", labUpOther("--hubs", "2", "--wards", "3")},
	{"drift", "a box changed by hand: told with who did it within 10 s, and put back", labRun("drift")},
	{"bad-template", "a wrong shared template: refused by proof; waived, stopped by the first wave and whole again within 120 s", labRun("bad-template")},
	{"router", "a router without our agent, by CLI over SSH certificates: configured; changed by hand it is told within 10 s and left until reverted, or adopted as a revision", labRun("router")},
	{"router-netconf", "netconfd behind sshd through the controller: planned, approved, applied, read back; changed by hand it is told within 10 s and left until reverted, or adopted; archived without its secrets", labTests("./cmd/wardnet", "^TestRouterNETCONF$")},
	{"router-openconfig", "the same of simulated OpenConfig devices with quirks; a change that costs a BGP session with a hub is not confirmed", labTests("./cmd/wardnet", "^TestRouterOpenConfig$")},
	{"lab-down", "nothing is left behind", labDown},
	{"channel-10000", "10,000 devices, 1 % flapping a minute, read back every 10 min: under 25 % of a core and 1.5 GB; all back 90 s after a restart, handshakes bounded", manyChannels{
		devices: 10000, resync: 10 * time.Minute, steady: 11 * time.Minute, flap: 0.01, handshakes: 250, cpu: 0.25, rssMB: 1500, back: 90 * time.Second,
	}.run},
	{"ansible", "the same change by ansible-playbook costs at least 3 times as much processor time", ansibleRatio},
}

func controllerTests(pattern string, flags ...string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		return e.tests(ctx, pattern, append([]string{"./controller"}, flags...)...)
	}
}

// planBench runs one benchmark of plans and holds it to seconds and, where
// given, to megabytes of heap.
func planBench(name string, seconds, megabytes float64) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		r, err := e.command(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkPlan$/"+strings.ReplaceAll(name, "/", "$/^")+"$", "-benchtime", "3x", "./controller")
		if err != nil {
			return "", err
		}
		got := map[string]float64{}
		for line := range strings.SplitSeq(r.out, "\n") {
			if f := strings.Fields(line); strings.HasPrefix(line, "Benchmark") && len(f) > 3 {
				for i := 2; i+1 < len(f); i += 2 {
					if got[f[i+1]], err = strconv.ParseFloat(f[i], 64); err != nil {
						return "", fmt.Errorf("benchmark line %q: %w", line, err)
					}
				}
			}
		}
		took := got["ns/op"] / 1e9
		figure := fmt.Sprintf("%.3f s", took)
		if megabytes > 0 {
			figure += fmt.Sprintf(", heap at most %.0f MB", got["MB"])
		}
		switch {
		case r.code != 0 || took <= 0:
			return figure, fmt.Errorf("exit %d: %s", r.code, tail(r.out+r.errOut, 2000))
		case took >= seconds || megabytes > 0 && (got["MB"] <= 0 || got["MB"] >= megabytes):
			return figure, fmt.Errorf("%s is not under %g s and, where asked, %g MB", figure, seconds, megabytes)
		}
		return figure, nil
	}
}
