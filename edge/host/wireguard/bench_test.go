//go:build lab

package wireguard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge/render"
)

// BenchmarkThroughput compares iperf3 through our processes with iperf3 through
// two plain wireguard-go programs, in turns on the same machine, and measures
// the memory of our process idle and after the load. Run it with -benchtime 1x.
func BenchmarkThroughput(b *testing.B) {
	edge, hub, atEdge, atHub := edgeAndHub(b)
	up(b, edge)
	idle := memory(b, edge.pid(b), "VmRSS")
	plainEdge, plainHub := newBox(b, "pedge"), newBox(b, "phub")
	link(b, plainEdge, plainHub, "wan0", "198.18.2")
	plainPID := plainEdge.plain(b, "wg0", "10.99.0.1/24", plainEdge.uapi(atEdge, plainHub.public, "198.18.2.2:51820"))
	plainHub.plain(b, "wg0", "10.99.0.2/24", plainHub.uapi(atHub, plainEdge.public, ""))
	up(b, plainEdge)
	ourPID := edge.pid(b)
	for b.Loop() {
		for _, streams := range []string{"1", "8"} {
			var ours, plain, oursCPU, plainCPU float64
			for i := range 6 {
				turn := []func(){
					func() {
						begin := cpu(b, ourPID)
						ours += iperf(b, edge, hub, "-P", streams)
						oursCPU += cpu(b, ourPID) - begin
					},
					func() {
						begin := cpu(b, plainPID)
						plain += iperf(b, plainEdge, plainHub, "-P", streams)
						plainCPU += cpu(b, plainPID) - begin
					},
				}
				turn[i%2]() // who goes first changes
				turn[1-i%2]()
			}
			b.ReportMetric(ours/6, streams+"-stream-Mbit/s")
			b.ReportMetric(plain/6, "plain-"+streams+"-stream-Mbit/s")
			b.ReportMetric(ours/plain, streams+"-stream-ratio")
			b.ReportMetric((ours/oursCPU)/(plain/plainCPU), streams+"-stream-per-cpu-ratio")
		}
		b.ReportMetric(idle, "idle-MiB")
		flood := []string{"-u", "-b", "0", "-l", "1300"}
		b.ReportMetric(iperf(b, edge, hub, flood...), "flood-Mbit/s")
		b.ReportMetric(iperf(b, plainEdge, plainHub, flood...), "plain-flood-Mbit/s")
		b.ReportMetric(memory(b, edge.pid(b), "VmHWM"), "peak-MiB")
		b.ReportMetric(memory(b, edge.pid(b), "VmRSS"), "loaded-MiB")
		b.ReportMetric(memory(b, hub.pid(b), "VmHWM"), "hub-peak-MiB")
		b.ReportMetric(memory(b, plainPID, "VmHWM"), "plain-peak-MiB")
	}
}

// BenchmarkMemory loads four tunnels of one box, one after the other and both
// ways, and measures the process at each end.
func BenchmarkMemory(b *testing.B) {
	edge, hub, atEdge, atHub := edgeAndHub(b)
	var atEdges, atHubs []render.WireGuard
	for i := range 4 {
		e, h := atEdge, atHub
		e.Name, h.Name, h.ListenPort = fmt.Sprintf("wne%d", i), fmt.Sprintf("wnh%d", i), atHub.ListenPort+uint16(i)
		e.Peers, h.Peers = slices.Clone(e.Peers), slices.Clone(h.Peers)
		e.Peers[0].Endpoint = netip.AddrPortFrom(e.Peers[0].Endpoint.Addr(), h.ListenPort)
		h.Peers[0].AllowedIPs = prefixList(fmt.Sprintf("10.98.%d.1/32", i))
		atEdges, atHubs = append(atEdges, e), append(atHubs, h)
	}
	hub.apply(b, atHubs...)
	edge.apply(b, atEdges...)
	for i := range 4 {
		ip(b, "-n", edge.ns, "addr", "add", fmt.Sprintf("10.98.%d.1/24", i), "dev", atEdges[i].Name)
		ip(b, "-n", hub.ns, "addr", "add", fmt.Sprintf("10.98.%d.2/24", i), "dev", atHubs[i].Name)
	}
	for b.Loop() {
		for i := range 4 {
			iperfTo(b, edge, hub, fmt.Sprintf("10.98.%d.2", i), "-P", "8", "--bidir")
		}
		b.ReportMetric(memory(b, edge.pid(b), "VmHWM"), "peak-MiB")
		b.ReportMetric(memory(b, hub.pid(b), "VmHWM"), "hub-peak-MiB")
		b.ReportMetric(memory(b, edge.pid(b), "VmRSS"), "loaded-MiB")
	}
}

// uapi is the configuration of the plain program that equals w with one peer.
func (b *box) uapi(w render.WireGuard, peer, endpoint string) string {
	s := fmt.Sprintf("private_key=%s\n", hexKey(b.private))
	if w.ListenPort != 0 {
		s += fmt.Sprintf("listen_port=%d\n", w.ListenPort)
	}
	s += fmt.Sprintf("public_key=%s\n", hexKey(peer))
	if endpoint != "" {
		s += "endpoint=" + endpoint + "\npersistent_keepalive_interval=5\n"
	}
	return s + "allowed_ip=0.0.0.0/0\n"
}

// plain runs the plain program in the box and returns its process.
func (b *box) plain(tb testing.TB, name, addr, uapi string) int {
	tb.Helper()
	cmd := exec.Command(os.Args[0], "plain", name)
	cmd.Env = []string{"UAPI=" + uapi}
	cmd.Stderr = tb.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as ours: the scheduler is fair between sessions
	var err error
	b.in(func() { err = cmd.Start() })
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for end := time.Now().Add(5 * time.Second); exec.Command("ip", "-n", b.ns, "link", "show", "dev", name).Run() != nil; {
		if time.Now().After(end) {
			tb.Fatalf("%s made no interface", name)
		}
		time.Sleep(10 * time.Millisecond)
	}
	ip(tb, "-n", b.ns, "addr", "add", addr, "dev", name)
	ip(tb, "-n", b.ns, "link", "set", name, "mtu", "1400", "up")
	return cmd.Process.Pid
}

// iperf returns the received rate from a to the tunnel address of b, Mbit/s.
func iperf(tb testing.TB, a, b *box, more ...string) float64 {
	tb.Helper()
	return iperfTo(tb, a, b, "10.99.0.2", more...)
}

func iperfTo(tb testing.TB, a, b *box, addr string, more ...string) float64 {
	tb.Helper()
	if _, err := exec.LookPath("iperf3"); err != nil {
		tb.Skip("needs iperf3; install it")
	}
	server := exec.Command("iperf3", "-s", "-1")
	var err error
	b.in(func() { err = server.Start() })
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	args := append([]string{"-c", addr, "-t", "2", "-J"}, more...)
	var out []byte
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) { // until the server listens
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		client := exec.CommandContext(ctx, "iperf3", args...)
		a.in(func() { out, err = client.Output() })
		cancel()
		var r struct {
			End struct {
				Received struct {
					BPS float64 `json:"bits_per_second"`
				} `json:"sum_received"`
				Sum struct {
					BPS  float64 `json:"bits_per_second"`
					Lost float64 `json:"lost_percent"`
				}
			}
		}
		if err := json.Unmarshal(out, &r); err != nil {
			continue
		}
		if bps := max(r.End.Received.BPS, r.End.Sum.BPS*(1-r.End.Sum.Lost/100)); bps > 0 {
			return bps / 1e6
		}
	}
	tb.Fatalf("iperf3: %v: %s", err, out)
	return 0
}

// cpu is the time a process has computed, seconds.
func cpu(tb testing.TB, pid int) float64 {
	tb.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	var ticks float64
	for _, f := range fields[11:13] { // utime and stime, 100 per second
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			tb.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}

// memory reads a field of /proc/PID/status, MiB.
func memory(tb testing.TB, pid int, field string) float64 {
	tb.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kb / 1024
		}
	}
	tb.Fatalf("process %d has no %s", pid, field)
	return 0
}
