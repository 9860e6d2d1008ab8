package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/probe"
	"github.com/wardnet/wardnet/labs/scenario"
)

// partB is the real edge in the real lab: namespaces, daemons and packets.
var partB = []check{
	{"edge-binary", "wardnet-edge under 40 MB stripped", func(_ context.Context, e *env) (string, error) {
		info, err := os.Stat(filepath.Join(e.root, "bin", "wardnet-edge"))
		if err != nil {
			return "", err
		}
		return under(float64(info.Size())/1e6, 40, "MB")
	}},
	{"lab-up", "2 hubs + 4 wards: all tunnels, BGP and health contracts green under 45 s", func(ctx context.Context, e *env) (string, error) {
		st, err := e.labUp(ctx, "--hubs", "2", "--wards", "4")
		if err != nil {
			return "", err
		}
		text := fmt.Sprintf("%d of %d tunnels, %d of %d BGP sessions, load %s", st.Tunnels.Up, st.Tunnels.Want, st.BGP.Up, st.BGP.Want, loadAverage())
		figure, err := under(st.SecondsUp, 45, "s")
		return figure + ", " + text, err
	}},
	{"lab-probe", "0 differences between intent and packets", labProbe},
	{"lab-encrypted", "the circuits carry the tunnels' packets and nothing of what is in them", labRun("encrypted")},
	{"lab-memory", "every agent under 64 MB resident", agentMemory},
	{"failover-circuit", "a circuit goes silent, loses its carrier: under 1.5 s", labRun("failover-circuit")},
	{"failover-hub", "a hub dies silently: under 1.5 s; 0 differences before, during, after", labRun("failover-hub")},
	{"brownout", "an edge leaves a lossy circuit within 10 s", labRun("brownout")},
	{"bad-config", "reverted by the edge within 60 s and reported with the failed check; a refused one changes nothing", labRun("bad-config")},
	{"autonomy", "edges boot and run without the controller", labRun("autonomy")},
	{"revocation", "a revoked ward gets no packet through either hub, whatever reverts and reboots", labRun("revocation")},
	{"carrier-outage", "one incident with exactly the wards of the carrier", labRun("carrier-outage")},
	{"restart-wg", "the WireGuard process dies: all tunnels back under 3 s", labRun("restart-wg")},
	{"restart-agent", "the agent dies: no packet is lost", labRun("restart-agent")},
	{"bulk", "100 % bulk load on a circuit: voice loss under 1 %, added jitter under 10 ms", labRun("bulk")},
	{"ztp", "one more ward is healthy within 20 s", labRun("ztp")},
	{"upgrade", "a ward's agent is upgraded without a lost packet; a broken one is taken back by the edge and halts the rollout", labUpgrade},
	{"older-agent", "a ward runs an agent of the release before under this controller, and comes back from it", labOlderAgent},
	{"tools", "ping, trace and capture from the box; who may not is refused; all of it audited", labRun("tools")},
	{"replace", "a burnt box is replaced in under 5 minutes; its disk is refused", labRun("replace")},
	{"lab-down", "nothing is left behind", labDown},
	{"ipsec-up", "2 hubs + 2 wards over IPsec: all tunnels, BGP and health contracts green", labUpOther("--hubs", "2", "--wards", "2", "--overlay", "ipsec")},
	{"ipsec-probe", "0 differences between intent and packets over IPsec", labProbe},
	{"ipsec-encrypted", "the circuits carry the tunnels' packets and nothing of what is in them", labRun("encrypted")},
	{"ipsec-failover-circuit", "a circuit goes silent, loses its carrier: under 1.5 s", labRun("failover-circuit")},
	{"ipsec-failover-hub", "a hub dies silently: under 1.5 s; 0 differences before, during, after", labRun("failover-hub")},
	{"ipsec-brownout", "an edge leaves a lossy circuit within 10 s", labRun("brownout")},
	{"ipsec-bad-config", "reverted by the edge within 60 s; a refused one changes nothing", labRun("bad-config")},
	{"ipsec-autonomy", "edges boot and run without the controller", labRun("autonomy")},
	{"ipsec-revocation", "a revoked ward gets no packet through either hub", labRun("revocation")},
	{"ipsec-restart", "the daemon of the tunnels dies: all tunnels back", labRun("restart-wg")},
	{"ipsec-restart-agent", "the agent dies: no packet is lost", labRun("restart-agent")},
	{"ipsec-bulk", "100 % bulk load on a circuit: voice loss under 1 %, added jitter under 10 ms", labRun("bulk")},
	{"ipsec-ztp", "one more ward is healthy", labRun("ztp")},
	{"ipsec-tools", "ping, trace and capture from the box", labRun("tools")},
	{"ipsec-replace", "a burnt box is replaced in under 5 minutes", labRun("replace")},
	{"ipsec-4-up", "2 hubs + 4 wards over IPsec", labUpOther("--hubs", "2", "--wards", "4", "--overlay", "ipsec")},
	{"ipsec-carrier-outage", "one incident with exactly the wards of the carrier", labRun("carrier-outage")},
	{"ipsec-down", "nothing is left behind", labDown},
	{"wards-20", "20 full wards at BFD 300 ms", labUpOther("--hubs", "2", "--wards", "20")},
	{"wards-20-steady", "10 minutes without a flap", labRun("steadiness", "--for", "10m")},
	{"wards-20-memory", "every agent under 64 MB resident", agentMemory},
	{"wards-20-down", "nothing is left behind", labDown},
	{"wards-100", "100 wards at BFD 2 s", labUpOther("--hubs", "2", "--wards", "100", "--bfd", "2s")},
	{"wards-100-steady", "10 minutes without a flap", labRun("steadiness", "--for", "10m")},
	{"wards-100-memory", "every agent under 64 MB resident", agentMemory},
	{"wards-100-down", "nothing is left behind", labDown},
	{"wireguard-throughput", "at least 80 % of a plain wireguard-go in the same run; the process's memory bounded under load", wireguardBench},
	{"host-journal", "killed and powered off before every step: the whole box is the old or the new one within 5 s, and no packet that both deny passes", labTests("./edge/host/linux", "Crash")},
	{"host-box", "there and back with read-back, refusals, healing, leases, dialling", labTests("./edge/host/linux", ".")},
	{"host-frr", "a delta never flaps an unchanged session", labTests("./edge/host/frr", ".")},
	{"host-wireguard", "adoption, revocation, marks, roaming, hanging process", labTests("./edge/host/wireguard/...", ".")},
	{"host-ipsec", "IKEv2 with device certificates, selectors, revocation, renewal", labTests("./edge/host/strongswan", ".")},
	{"host-services", "DHCP, DNS, NTP per segment; queues per circuit", labTests("./edge/host/service ./edge/host/shape", ".")},
	{"host-probe", "measured loss, latency and jitter", labTests("./edge/host/probe", ".")},
	{"render-two-boxes", "two boxes under the rendered texts: routes, permits, denials, spoofing, translation", labTests("./edge/render", ".")},
	{"lab-tools", "faults, forwarder and prober in namespaces", labTests("./labs/impair/... ./labs/probe/...", ".")},
}

// labDir is where a part's lab lives.
func (e *env) labDir() string { return filepath.Join(e.dir, "lab") }

// lab runs a verb of the lab and decodes what it printed.
func (e *env) lab(ctx context.Context, into any, verb string, args ...string) (result, error) {
	r, err := e.command(ctx, append([]string{"bin/wardnet", "lab", verb, "--dir", e.labDir(), "--json"}, args...)...)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(r.out), into); err != nil {
		return r, fmt.Errorf("lab %s printed no result (exit %d): %s", verb, r.code, tail(r.errOut, 2000))
	}
	return r, nil
}

func (e *env) labUp(ctx context.Context, args ...string) (netlab.Status, error) {
	var st netlab.Status
	if os.Getuid() != 0 {
		return st, fmt.Errorf("%w: the lab needs root", errNotRun)
	}
	r, err := e.lab(ctx, &st, "up", args...)
	if err == nil && (r.code != 0 || !st.Healthy) {
		err = fmt.Errorf("exit %d, healthy %v: %s", r.code, st.Healthy, tail(r.errOut, 2000))
	}
	return st, err
}

// needLab says what is missing when the lab is not up.
func (e *env) needLab() error {
	if _, err := os.Stat(e.labDir()); err != nil {
		return fmt.Errorf("%w: the lab did not come up", errNotRun)
	}
	return nil
}

func labProbe(ctx context.Context, e *env) (string, error) {
	if err := e.needLab(); err != nil {
		return "", err
	}
	var rep probe.Report
	r, err := e.lab(ctx, &rep, "probe")
	if err != nil {
		return "", err
	}
	figure := fmt.Sprintf("%d pairs, %d allowed, %d differences in %.1f s", rep.Pairs, rep.Allowed, rep.Differences, rep.Seconds)
	if r.code != 0 || rep.Differences > 0 || rep.Pairs == 0 {
		return figure, fmt.Errorf("exit %d: %s: %v", r.code, figure, rep.List[:min(5, len(rep.List))])
	}
	return figure, nil
}

func labRun(name string, args ...string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		if err := e.needLab(); err != nil {
			return "", err
		}
		var res scenario.Report
		r, err := e.lab(ctx, &res, "run", append([]string{name}, args...)...)
		if err != nil {
			return "", err
		}
		var parts, failed []string
		for _, ev := range res.Events {
			text := fmt.Sprintf("%s %d ms", ev.Name, ev.OutageMS)
			parts = append(parts, text)
			if !ev.OK {
				failed = append(failed, text+" ("+ev.Detail+")")
			}
		}
		figure := strings.Join(parts, ", ") + fmt.Sprintf(", load %s, %.0f %% stolen, still for %d ms", res.Load, 100*res.StolenRatio, res.StillMS)
		if r.code != 0 || !res.Passed || len(res.Events) == 0 {
			return figure, fmt.Errorf("exit %d: %s: %s", r.code, strings.Join(failed, "; "), tail(r.errOut, 1000))
		}
		return figure, nil
	}
}

// agentMemory reads the resident memory of every agent of the lab.
func agentMemory(_ context.Context, e *env) (string, error) {
	if err := e.needLab(); err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(e.labDir(), "run", "d-*.pid"))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("no agent is running in %s: %w", e.labDir(), err)
	}
	most := 0.0
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		pid := strings.Fields(string(raw))[0]
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			return "", err
		}
		for line := range strings.SplitSeq(string(status), "\n") {
			if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kib, err := strconv.Atoi(strings.Fields(v)[0])
				if err != nil {
					return "", err
				}
				most = max(most, float64(kib)*1024/1e6)
			}
		}
	}
	return under(most, 64, "MB")
}

func labDown(ctx context.Context, e *env) (string, error) {
	if err := e.needLab(); err != nil {
		return "", err
	}
	r, err := e.command(ctx, "bin/wardnet", "lab", "down", "--dir", e.labDir())
	if err != nil {
		return "", err
	}
	spaces, err := e.command(ctx, "ip", "netns", "list")
	if err != nil {
		return "", err
	}
	if r.code != 0 || strings.Contains("\n"+spaces.out, "\nwn-") {
		return "", fmt.Errorf("exit %d: %s; namespaces: %s", r.code, tail(r.errOut, 1000), spaces.out)
	}
	return "no namespace left", nil
}

// under judges a measured figure against its bound.
func under(v, bound float64, unit string) (string, error) {
	text := fmt.Sprintf("%.1f %s", v, unit)
	if v <= 0 || v >= bound {
		return text, fmt.Errorf("%s is not under %.0f %s", text, bound, unit)
	}
	return text, nil
}

// labTests runs tests that need network namespaces.
func labTests(pkgs, pattern string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		return e.tests(ctx, pattern, append([]string{"-tags", "lab", "-p", "1"}, strings.Fields(pkgs)...)...)
	}
}
