package clab

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/internal/golden"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/labs/netlab"
)

// cities are made once; nobody changes them. Only the topology knows the prefix.
var cities = map[string]inventory.Inventory{}

func cityOf(shape netlab.Shape) (inventory.Inventory, error) {
	shape.Prefix = ""
	key := fmt.Sprint(shape.Hubs, shape.Wards, shape.Overlay)
	if inv, there := cities[key]; there {
		return inv, nil
	}
	inv, _, err := netlab.City(sample.City(), shape)
	cities[key] = inv
	return inv, err
}

// failer is a test or a property.
type failer interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func lab(t failer, shape netlab.Shape, cfg Config) (netlab.Topology, map[string]string) {
	inv, err := cityOf(shape)
	if err != nil {
		t.Fatal(err)
	}
	top, err := netlab.Build(inv, cmp.Or(shape.Prefix, "wn"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.ASN = map[inventory.DeviceID]uint32{}
	for i, s := range top.Sites {
		if s.Role == inventory.RoleHub {
			cfg.ASN[s.Device] = 4200100001 + uint32(i)
		}
	}
	files, err := Render(inv, top, cfg)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		if _, twice := out[f.Path]; twice || !filepath.IsLocal(f.Path) {
			t.Fatalf("file %q", f.Path)
		}
		out[f.Path] = string(f.Text)
	}
	return top, out
}

func parsed(t failer, files map[string]string) document {
	var d document
	dec := yaml.NewDecoder(strings.NewReader(files[TopologyFile]))
	dec.KnownFields(true)
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

// listing is the files that are kept, in order, each below its name.
func listing(files map[string]string, keep func(path string) bool) string {
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if keep(p) {
			fmt.Fprintf(&b, "-- %s --\n%s", p, files[p])
		}
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	small := netlab.Shape{Hubs: 2, Wards: 2}
	_, files := lab(t, small, Config{})
	golden.Check(t, "lab", listing(files, func(p string) bool {
		return p != "inventory.yaml" && p != "Dockerfile" && p != "forever.sh" && !strings.HasSuffix(p, "services.json")
	}))
	for kind, image := range map[string]string{"arista_ceos": "ceos:4.32.0F", "nokia_srlinux": "ghcr.io/nokia/srlinux:24.10.1", "cisco_xrd": "xrd:24.1.1"} {
		_, files := lab(t, small, Config{DCKind: kind, DCImage: image})
		golden.Check(t, kind, listing(files, func(p string) bool {
			return strings.HasPrefix(p, "nodes/dc/") || strings.HasPrefix(p, "nodes/servers/") && !strings.HasSuffix(p, ".json")
		}))
	}
}

// Whatever the lab's shape: the topology reads back, every cable's ends are
// nodes of it with fitting interfaces, and everything that is bound is written.
func TestEveryTopologyIsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := netlab.Shape{
			Hubs: rapid.IntRange(1, 2).Draw(t, "hubs"), Wards: rapid.SampledFrom([]int{1, 3, 6}).Draw(t, "wards"),
			Overlay: rapid.SampledFrom([]inventory.Overlay{"", inventory.OverlayIPsec}).Draw(t, "overlay"),
			Prefix:  rapid.StringMatching(`[a-z][a-z0-9]{0,7}`).Draw(t, "prefix"),
		}
		cfg := Config{Name: rapid.StringMatching(`[a-z0-9][a-z0-9.-]{0,9}`).Draw(t, "name")}
		if cfg.DCKind = rapid.SampledFrom([]string{"", "arista_ceos", "nokia_srlinux", "cisco_xrd", "juniper_crpd", "nokia_sros"}).Draw(t, "kind"); cfg.DCKind != "" {
			cfg.DCImage = "some/image:1"
		}
		top, files := lab(t, shape, cfg)
		whole(t, top, cfg, files)
	})
}

func whole(t *rapid.T, top netlab.Topology, cfg Config, files map[string]string) {
	d := parsed(t, files)
	extra := 0
	if cfg.DCKind != "" {
		extra = 1 // the servers and their cable
	}
	if len(d.Topology.Nodes) != len(top.Namespaces)+extra || len(d.Topology.Links) != len(top.Links)+extra {
		t.Fatalf("%d nodes and %d links of %d namespaces and %d links", len(d.Topology.Nodes), len(d.Topology.Links), len(top.Namespaces), len(top.Links))
	}
	used, macs := map[endpoint]bool{}, map[string]bool{}
	for _, l := range d.Topology.Links {
		if l.Type != "veth" || len(l.Endpoints) != 2 || l.MTU < 1280 || l.MTU > 1500 {
			t.Fatalf("link %+v", l)
		}
		for _, e := range l.Endpoints {
			n, there := d.Topology.Nodes[e.Node]
			at := endpoint{Node: e.Node, Interface: e.Interface}
			switch {
			case !there:
				t.Fatalf("link to %q, which is no node", e.Node)
			case len(e.Interface) == 0 || len(e.Interface) > 15:
				t.Fatalf("interface %q of %s has other than 1 to 15 bytes", e.Interface, e.Node)
			case used[at]:
				t.Fatalf("%s has two interfaces %q", e.Node, e.Interface)
			case e.Interface == "eth0" && n.NetworkMode != "none":
				t.Fatalf("%s: eth0 is Docker's in network mode %q", e.Node, n.NetworkMode)
			case (e.MAC == "") != (n.Kind != "linux") || macs[e.MAC] && e.MAC != "":
				t.Fatalf("MAC %q of %s, a %s", e.MAC, e.Node, n.Kind)
			}
			used[at], macs[e.MAC] = true, true
		}
	}
	for name, n := range d.Topology.Nodes {
		bound(t, name, n, files)
	}
}

// bound checks that what a node binds and calls is written.
func bound(t *rapid.T, name string, n node, files map[string]string) {
	if n.Kind == "linux" && n.Cmd != "sleep infinity" && !strings.HasPrefix(n.Cmd, "sh /forever.sh ") {
		t.Fatalf("%s may end: %q", name, n.Cmd)
	}
	if n.StartupConfig != "" && files[n.StartupConfig] == "" {
		t.Fatalf("%s starts with %s, which is not written", name, n.StartupConfig)
	}
	at := map[string]string{}
	for _, b := range n.Binds {
		p := strings.Split(b, ":")
		at[p[1]] = p[0]
		there := false
		for f := range files {
			there = there || f == p[0] || strings.HasPrefix(f, p[0]+"/")
		}
		if !there {
			t.Fatalf("%s binds %s, which is not written", name, p[0])
		}
	}
	for _, line := range append(slices.Clone(n.Exec), n.Cmd) {
		for _, word := range strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '=' }) {
			if rel, ours := strings.CutPrefix(word, ownDir+"/"); ours && filepath.Ext(word) != "" {
				if _, there := files[at[ownDir]+"/"+rel]; !there {
					t.Fatalf("%s names %s, which is not written: %s", name, word, line)
				}
			}
		}
	}
}

func TestRolesOfNodes(t *testing.T) {
	top, files := lab(t, netlab.Shape{Hubs: 2, Wards: 2}, Config{})
	d := parsed(t, files)
	for _, s := range top.Sites {
		n := d.Topology.Nodes[strings.TrimPrefix(s.NS, "wn-")]
		if !strings.Contains(n.Cmd, "--bundle /bundles/"+string(s.Device)+".json") || !strings.Contains(n.Cmd, "--frr-pathspace box") {
			t.Errorf("%s runs %q", s.ID, n.Cmd)
		}
	}
	if ctl := d.Topology.Nodes["ctl"]; ctl.NetworkMode != "" || !slices.Equal(ctl.Ports, []string{"8443:8443"}) || !strings.Contains(ctl.Cmd, "wardnet serve") {
		t.Errorf("controller: %+v", ctl)
	}
	if dc := d.Topology.Nodes["dc"]; dc.Sysctls["net.ipv4.ip_forward"] != "1" || len(dc.Exec) != 6 {
		t.Errorf("data centre: %+v", dc)
	}
	if plain := d.Topology.Kinds["linux"]; plain.Image != Image || plain.Sysctls["net.ipv4.ip_forward"] != "0" {
		t.Errorf("all Linux nodes: %+v", plain)
	}
	asking := 0
	for _, n := range d.Topology.Nodes {
		if slices.Contains(n.Exec, "udhcpc -b -t 1 -A 5 -i eth0") {
			asking++
		}
	}
	if asking == 0 {
		t.Error("no host asks for its address")
	}
	if inv, err := inventory.Decode("inventory.yaml", strings.NewReader(files["inventory.yaml"])); err != nil || len(inv.Devices) != 4 {
		t.Errorf("inventory: %d devices, %v", len(inv.Devices), err)
	}
}

func TestConfigIsRefusedWhole(t *testing.T) {
	err := Config{Name: "A b", DCKind: "bridge", DCImage: "x"}.Validate()
	if !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), `name "A b"`) || !strings.Contains(err.Error(), `"bridge"`) {
		t.Error(err)
	}
	for name, c := range map[string]Config{
		"no image": {DCKind: "arista_ceos"}, "no kind": {DCImage: "x"}, "Linux": {DCKind: "linux", DCImage: "x"},
		"a space": {DCKind: "arista_ceos", DCImage: "x\nkind: y"}, "kind with a colon": {DCKind: "a: b", DCImage: "x"},
	} {
		if err := c.Validate(); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	inv, top, err := netlab.City(sample.City(), netlab.Shape{Wards: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Render(inv, top, Config{DCKind: "arista_ceos", DCImage: "ceos"}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("without the hubs' AS numbers: %v", err)
	}
}

func TestWriteKeepsWhatIsNotOurs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	files := []File{{TopologyFile, 0o644, []byte("name: x\n")}, {"nodes/a/addresses", 0o644, []byte("link set lo up\n")}}
	if err := Write(dir, append(files, File{"nodes/gone/routes", 0o644, nil}, File{"bundles/README", 0o644, nil})); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bundles/d-1.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, files); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "nodes/gone")); err == nil {
		t.Error("the node that the new lab has not is still there")
	}
	if _, err := os.Stat(filepath.Join(dir, "bundles/d-1.json")); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "nodes/a/addresses")); err != nil || string(b) != "link set lo up\n" {
		t.Errorf("%q, %v", b, err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "thesis.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(other, files); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("into another's directory: %v", err)
	}
	if list, _ := os.ReadDir(other); len(list) != 1 {
		t.Errorf("it wrote %v", list)
	}
}
