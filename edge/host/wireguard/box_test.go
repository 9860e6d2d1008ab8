//go:build lab

package wireguard

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge/render"
)

const (
	tunA = "wn0000000a"
	tunB = "wn51820"
)

// edgeAndHub are two boxes with a tunnel: the edge knows where the hub is and
// not the other way round.
func edgeAndHub(tb testing.TB) (edge, hub *box, atEdge, atHub render.WireGuard) {
	edge, hub = newBox(tb, "edge"), newBox(tb, "hub")
	link(tb, edge, hub, "wan0", "198.18.1")
	atEdge = render.WireGuard{Name: tunA, MTU: 1400, Peers: []render.Peer{{
		Tunnel: "hub", PublicKey: hub.public, Endpoint: netip.MustParseAddrPort("198.18.1.2:51820"),
		AllowedIPs: prefixList("0.0.0.0/0", "::/0"), KeepaliveSeconds: 5,
	}}}
	atHub = render.WireGuard{Name: tunB, ListenPort: 51820, MTU: 1400, Peers: []render.Peer{{
		Tunnel: "edge", PublicKey: edge.public, AllowedIPs: prefixList("10.99.0.1/32", "10.1.0.0/16"),
	}}}
	hub.apply(tb, atHub) // first: a handshake nobody hears is tried again after 5 s
	edge.apply(tb, atEdge)
	ip(tb, "-n", edge.ns, "addr", "add", "10.99.0.1/24", "dev", tunA)
	ip(tb, "-n", hub.ns, "addr", "add", "10.99.0.2/24", "dev", tunB)
	return edge, hub, atEdge, atHub
}

// up waits for the tunnel and returns a pinger through it.
func up(tb testing.TB, edge *box) *pinger {
	tb.Helper()
	p := edge.pinger(tb, "10.99.0.2")
	if !p.answers(10 * time.Second) {
		tb.Fatal("no answer through the tunnel")
	}
	return p
}

func TestTunnelCarriesPackets(t *testing.T) {
	edge, hub, atEdge, atHub := edgeAndHub(t)
	up(t, edge)
	d := edge.state(t)[tunA]
	p := d.Peers[hub.public]
	if time.Since(p.LastHandshake) > time.Minute || p.RxBytes == 0 || p.TxBytes == 0 || d.MTU != 1400 || d.PublicKey != edge.public {
		t.Errorf("state of the edge: %+v", d)
	}
	if err := Check(edge.private, []render.WireGuard{atEdge}, edge.state(t)); err != nil {
		t.Error(err)
	}
	if got := hub.state(t)[tunB].Peers[edge.public].Endpoint.Addr(); got != netip.MustParseAddr("198.18.1.1") {
		t.Errorf("the hub heard the edge from %s", got)
	}
	atHub.Mark = 7
	if err := Check(hub.private, []render.WireGuard{atHub}, hub.state(t)); err == nil || !strings.Contains(err.Error(), "mark 0x7") {
		t.Errorf("a mark that is missing: %v", err)
	}
}

func TestUnchangedApplyTouchesNothing(t *testing.T) {
	edge, hub, atEdge, _ := edgeAndHub(t)
	p := up(t, edge)
	before := edge.state(t)[tunA].Peers[hub.public]
	for range 3 {
		edge.apply(t, atEdge)
	}
	atEdge.Peers[0].AllowedIPs = prefixList("0.0.0.0/0") // less, yet the session stays
	atEdge.Peers[0].KeepaliveSeconds = 7
	edge.apply(t, atEdge)
	after := edge.state(t)[tunA].Peers[hub.public]
	if !after.LastHandshake.Equal(before.LastHandshake) || after.TxBytes < before.TxBytes || after.KeepaliveSeconds != 7 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if lost := p.flow(20); lost != 0 {
		t.Errorf("%d of 20 packets lost", lost)
	}
}

func TestKilledProcessComesBack(t *testing.T) {
	edge, _, _, _ := edgeAndHub(t)
	restarted := make(chan struct{}, 10)
	edge.supervise(t, func() { restarted <- struct{}{} })
	p := up(t, edge)
	before := carrierChanges(t, edge)
	for range 3 {
		begin := time.Now()
		if err := syscall.Kill(edge.pid(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-restarted
		if !p.answers(10 * time.Second) {
			t.Fatal("no answer after the process was killed")
		}
		took := time.Since(begin)
		t.Logf("edge's process killed: tunnel back after %s", took)
		if took > 3*time.Second {
			t.Errorf("tunnel back after %s, want under 3 s", took)
		}
		// The far end takes one first message of a peer each 20 ms (the module's
		// HandshakeInitationRate), and we are back sooner than that.
		time.Sleep(50 * time.Millisecond)
	}
	if got := ip(t, "-n", edge.ns, "addr", "show", "dev", tunA); !strings.Contains(got, "10.99.0.1/24") {
		t.Errorf("the interface lost its address: %s", got)
	}
	if now := carrierChanges(t, edge); now != before {
		t.Errorf("the interface's carrier changed %d times: routing saw it go", now-before)
	}
}

// carrierChanges counts how often the edge's tunnel lost or gained its carrier.
func carrierChanges(t *testing.T, edge *box) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(ip(t, "netns", "exec", edge.ns, "cat", "/sys/class/net/"+tunA+"/carrier_changes")))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A hub that restarted does not know where its edges are: an edge that sees
// its tunnel dead kicks it.
func TestKilledHubComesBackByAKick(t *testing.T) {
	edge, hub, _, _ := edgeAndHub(t)
	restarted := make(chan struct{}, 1)
	hub.supervise(t, func() { restarted <- struct{}{} })
	p := up(t, edge)
	begin := time.Now()
	if err := syscall.Kill(hub.pid(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-restarted
	if err := edge.Kick(t.Context(), tunA, hub.public); err != nil {
		t.Fatal(err)
	}
	if !p.answers(10 * time.Second) {
		t.Fatal("no answer after the hub's process was killed")
	}
	took := time.Since(begin)
	t.Logf("hub's process killed: tunnel back after %s", took)
	if took > 3*time.Second {
		t.Errorf("tunnel back after %s, want under 3 s", took)
	}
}

func TestAgentRestartLosesNoPacket(t *testing.T) {
	edge, _, atEdge, _ := edgeAndHub(t)
	edge.supervise(t, func() { t.Error("the process was restarted") })
	p, pid := up(t, edge), edge.pid(t)
	lost := make(chan int)
	go func() { lost <- p.flow(300) }()
	for range 3 {
		edge.end()
		var err error
		edge.in(func() { edge.Driver, err = Open(edge.config(t)) })
		if err != nil {
			t.Fatal(err)
		}
		edge.supervise(t, func() { t.Error("the process was restarted") })
		edge.apply(t, atEdge)
	}
	if n := <-lost; n != 0 {
		t.Errorf("%d of 300 packets lost", n)
	}
	if got := edge.pid(t); got != pid {
		t.Errorf("process %d became %d", pid, got)
	}
}

func TestRevocationCutsAtOnce(t *testing.T) {
	edge, hub, atEdge, atHub := edgeAndHub(t)
	p := up(t, edge)
	atHub.Peers = nil
	hub.apply(t, atHub)
	if lost := p.flow(30); lost != 30 {
		t.Errorf("%d packets passed after the peer was removed", 30-lost)
	}
	if len(hub.state(t)[tunB].Peers) != 0 {
		t.Error("the hub still lists the peer")
	}
	edge.apply(t)
	if links := ip(t, "-n", edge.ns, "link"); strings.Contains(links, tunA) {
		t.Errorf("the device is still there: %s", links)
	}
	edge.apply(t, atEdge) // and comes again
	if _, ok := edge.state(t)[tunA]; !ok {
		t.Error("the device did not come again")
	}
}

// What an agent left behind is removed by the next one, even if the process
// died between the two.
func TestLeftoverInterfaceIsRemoved(t *testing.T) {
	edge, _, _, _ := edgeAndHub(t)
	edge.kill(t)
	if links := ip(t, "-n", edge.ns, "link"); !strings.Contains(links, tunA) {
		t.Fatalf("the interface did not survive its process: %s", links)
	}
	var err error
	edge.in(func() { edge.Driver, err = Open(edge.config(t)) })
	if err != nil {
		t.Fatal(err)
	}
	edge.apply(t)
	if links := ip(t, "-n", edge.ns, "link"); strings.Contains(links, tunA) {
		t.Errorf("the interface is still there: %s", links)
	}
}

// The mark of the outer packets chooses the routing table and so the circuit;
// another mark moves a live session to another circuit.
func TestMarkBindsToACircuit(t *testing.T) {
	edge, hub, atEdge, _ := edgeAndHub(t)
	ip(t, "-n", hub.ns, "addr", "add", "10.255.0.1/32", "dev", "lo")
	for i, port := range []string{"wan1", "wan2"} {
		n := strconv.Itoa(i + 1)
		link(t, edge, hub, port, "198.19."+n)
		ip(t, "-n", edge.ns, "rule", "add", "fwmark", "0x10000"+n+"/0xffffff", "lookup", "10"+n)
		ip(t, "-n", edge.ns, "route", "add", "default", "via", "198.19."+n+".2", "dev", port, "table", "10"+n)
	}
	atEdge.Peers[0].Endpoint = netip.MustParseAddrPort("10.255.0.1:51820")
	for i, port := range []string{"wan1", "wan2", "wan1"} {
		atEdge.Mark = 0x100001 + uint32(i%2)
		edge.apply(t, atEdge)
		before := map[string]int{"wan1": edge.sent(t, "wan1"), "wan2": edge.sent(t, "wan2")}
		if p := up(t, edge); p.flow(50) != 0 {
			t.Errorf("packets lost over %s", port)
		}
		for _, x := range []string{"wan1", "wan2"} {
			// Neighbour discovery aside, only the chosen circuit carries packets.
			if n := edge.sent(t, x) - before[x]; (x == port) != (n >= 50) || (x != port && n > 10) {
				t.Errorf("mark of %s: %d packets left by %s", port, n, x)
			}
		}
	}
}

// A peer that moved stays where it was heard, through applies and a new agent,
// until another endpoint is configured.
func TestRoamedEndpointIsKept(t *testing.T) {
	edge, hub, _, atHub := edgeAndHub(t)
	up(t, edge)
	moved := hub.state(t)[tunB].Peers[edge.public].Endpoint
	atHub.Peers[0].Endpoint = netip.MustParseAddrPort("198.18.1.1:9") // wrong, and the edge will be heard again
	hub.apply(t, atHub)
	if got := hub.state(t)[tunB].Peers[edge.public].Endpoint; got != atHub.Peers[0].Endpoint {
		t.Fatalf("endpoint is %s", got)
	}
	if p := edge.pinger(t, "10.99.0.2"); !p.answers(10 * time.Second) {
		t.Fatal("no answer")
	}
	for range 2 {
		atHub.Peers[0].KeepaliveSeconds++ // a change of something else
		hub.apply(t, atHub)
		if got := hub.state(t)[tunB].Peers[edge.public].Endpoint; got != moved {
			t.Errorf("endpoint is %s, the edge was heard from %s", got, moved)
		}
		var err error
		hub.in(func() { hub.Driver, err = Open(hub.config(t)) })
		if err != nil {
			t.Fatal(err)
		}
	}
}

// sent returns how many packets left by a port of the box.
func (b *box) sent(tb testing.TB, port string) int {
	tb.Helper()
	var links []struct {
		Stats64 struct{ TX struct{ Packets int } }
	}
	if err := json.Unmarshal([]byte(ip(tb, "-n", b.ns, "-j", "-s", "link", "show", "dev", port)), &links); err != nil {
		tb.Fatal(err)
	}
	return links[0].Stats64.TX.Packets
}
