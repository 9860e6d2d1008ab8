package clab

import (
	"encoding/json"
	"fmt"

	"github.com/wardnet/wardnet/labs/netlab"
)

// Where a node finds its own files, and those of all.
const (
	ownDir     = "/lab"
	bundlesDir = "/bundles"
	pidFile    = "/run/dnsmasq-lab.pid"
	consoleAt  = "8443:8443" // host's and container's port
)

// noIPv6Off is what a container without Docker's network may come with.
var noIPv6Off = map[string]string{"net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.default.disable_ipv6": "0"}

// nodes makes one node of every namespace.
func (w *writer) nodes() error {
	setups := w.top.Setups(pidFile)
	plain := netlab.Topology{Namespaces: []netlab.Namespace{{Role: netlab.RoleHost}}}.Setups("")[""].Sysctls
	for k, v := range noIPv6Off {
		plain[k] = v
	}
	w.doc.Topology.Kinds = map[string]node{"linux": {Image: Image, Sysctls: plain, Binds: []string{"forever.sh:/forever.sh:ro"}}}
	w.doc.Topology.Nodes = map[string]node{}
	for _, n := range w.top.Namespaces {
		name := w.node(n.Name)
		if w.router != nil && n.Name == w.top.DC {
			w.doc.Topology.Nodes[name] = w.vendorNode()
			continue
		}
		one, err := w.linux(n, setups[n.Name], plain)
		if err != nil {
			return err
		}
		w.doc.Topology.Nodes[name] = one
	}
	return nil
}

// linux is a Linux node with its files. Nothing but the lab's cables leads into
// it; the controller's console alone is reached from the machine.
func (w *writer) linux(n netlab.Namespace, s netlab.Setup, plain map[string]string) (node, error) {
	name := w.node(n.Name)
	dir := nodesDir + "/" + name + "/"
	out := node{
		Kind: "linux", NetworkMode: "none", Labels: map[string]string{"wardnet-role": string(n.Role)},
		Binds: []string{nodesDir + "/" + name + ":" + ownDir + ":ro"}, Sysctls: map[string]string{},
		Exec: []string{"ip -batch " + ownDir + "/addresses"},
	}
	for k, v := range s.Sysctls {
		if plain[k] != v {
			out.Sysctls[k] = v
		}
	}
	w.add(dir+"addresses", []byte(s.Addresses))
	if s.Routes != "" {
		w.add(dir+"routes", []byte(s.Routes))
		out.Exec = append(out.Exec, "ip -batch "+ownDir+"/routes")
	}
	if s.NAT != "" {
		w.add(dir+"nat.nft", []byte(s.NAT))
		out.Exec = append(out.Exec, "nft -f "+ownDir+"/nat.nft")
	}
	var err error
	switch {
	case n.Role == netlab.RoleBox:
		err = w.box(n, dir, &out)
	case n.Role == netlab.RoleController:
		w.controller(dir, &out)
	case s.DHCP != "":
		w.add(dir+"dhcp.conf", []byte(s.DHCP))
		out.Cmd = forLong("dnsmasq --conf-file=" + ownDir + "/dhcp.conf")
	default:
		err = w.services(n, dir, &out)
	}
	if s.Router != "" {
		w.frr(s.Router, dir, &out)
	}
	for _, h := range w.top.Hosts {
		if h.NS == n.Name && h.DHCP {
			// It asks until its box, which has yet to enrol, answers.
			out.Exec = append(out.Exec, fmt.Sprintf("udhcpc -b -t 1 -A 5 -i %s", h.Port))
		}
	}
	return out, err
}

// forLong is the command of a container that must not end.
func forLong(program string) string { return "sh /forever.sh " + program }

// box is a hub or an edge: its agent waits for the bundle and does the rest.
func (w *writer) box(n netlab.Namespace, dir string, out *node) error {
	for _, s := range w.top.Sites {
		if s.NS != n.Name {
			continue
		}
		ports, err := netlab.PortsFile(w.inv, s.ID)
		if err != nil {
			return err
		}
		w.add(dir+"ports.json", ports)
		out.Binds = append(out.Binds, "bundles:"+bundlesDir+":ro")
		// An FRR instance of its own: without it the agent would also set the
		// clock, which is the machine's.
		out.Cmd = forLong(fmt.Sprintf("wardnet-edge run --host linux --bundle %s/%s.json --ports %s/ports.json --frr-pathspace box", bundlesDir, s.Device, ownDir))
	}
	return nil
}

// controller is wardnet serve. Docker's network is there for the console; the
// lab's default route takes the place of Docker's.
func (w *writer) controller(dir string, out *node) {
	at := w.top.Controller
	w.add(dir+"wardnet.yaml", fmt.Appendf(nil, `names: ["%s", localhost, 127.0.0.1]
listen:
  console: "0.0.0.0:8443"
  pep: 127.0.0.1:8444
  devices: "%[1]s:9443"
  ca: "%[1]s:9444"
  enrol: "%[1]s:9445"
  status: "%[1]s:9446"
  metrics: 127.0.0.1:9464
`, at))
	out.NetworkMode, out.Ports = "", []string{consoleAt}
	out.Cmd = forLong("wardnet serve --config " + ownDir + "/wardnet.yaml")
}

// services is what listens in a node, if anything does.
func (w *writer) services(n netlab.Namespace, dir string, out *node) error {
	var list []netlab.Service
	for _, s := range w.top.Services {
		if s.NS == n.Name {
			s.NS = "" // the container's own
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		out.Cmd = "sleep infinity"
		return nil
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("services of %s: %w", n.Name, err)
	}
	w.add(dir+"services.json", append(text, '\n'))
	out.Cmd = forLong("wardnet lab host --services " + ownDir + "/services.json --json")
	return nil
}

// frr starts the data centre's own router as the lab does.
func (w *writer) frr(text, dir string, out *node) {
	w.add(dir+"frr/dc/frr.conf", []byte(text))
	w.add(dir+"frr/dc/vtysh.conf", nil)
	out.Exec = append(out.Exec, "install -d -o frr -g frr /run/frr /run/frr/dc")
	for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
		out.Exec = append(out.Exec, "/usr/lib/frr/"+daemon+" -d -N dc -A 127.0.0.1 -P 0")
	}
	out.Exec = append(out.Exec, "vtysh -N dc --config_dir "+ownDir+"/frr -f "+ownDir+"/frr/dc/frr.conf")
}

// links makes one link of every cable. A vendor's router keeps its own MACs.
func (w *writer) links() {
	end := func(e netlab.End) endpoint {
		if w.router != nil && e.NS == w.top.DC {
			e.MAC = ""
		}
		return endpoint{Node: w.node(e.NS), Interface: e.Port, MAC: e.MAC}
	}
	for _, l := range w.top.Links {
		w.doc.Topology.Links = append(w.doc.Topology.Links, link{
			Type: "veth", Endpoints: []endpoint{end(l.A), end(l.B)}, MTU: l.MTU,
			Labels: map[string]string{"wardnet-" + string(l.Kind): l.Name},
		})
	}
}
