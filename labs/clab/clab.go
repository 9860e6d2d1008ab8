// Package clab writes the lab as a containerlab topology, for people who have
// containerlab, Docker and, if they like, a vendor's image for the data centre's
// router. What it writes has been compared with containerlab's documentation and
// never been run.
package clab

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab"
)

// TopologyFile is the name of the topology among the files.
const TopologyFile = "wardnet.clab.yml"

// nodesDir has the files of each node, below its name.
const nodesDir = "nodes"

// Image is the name that the Linux nodes' image is built under.
const Image = "wardnet-lab"

// Config says what is to be written.
type Config struct {
	Name string // of the lab at containerlab; empty: "wardnet"
	// DCKind is containerlab's kind of the data centre's router, e.g.
	// arista_ceos, and DCImage its image; both empty: FRR on Linux.
	DCKind, DCImage string
	// ASN are the AS numbers of the hubs, as the controller gives them.
	ASN map[inventory.DeviceID]uint32
}

// File is one file, by its path relative to the topology's directory.
type File struct {
	Path string
	Mode fs.FileMode
	Text []byte
}

//go:embed Dockerfile
var dockerfile []byte

//go:embed forever.sh
var forever []byte

//go:embed readme.tmpl
var readmeText string

var (
	readme   = template.Must(template.New("README.md").Parse(readmeText))
	nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,40}$`)
	kindForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,40}$`)
)

// noRouter are containerlab's kinds that cannot be the data centre's router.
var noRouter = []string{"linux", "bridge", "ovs-bridge", "host", "ext-container", "k8s-kind"}

// Validate reports every fault at once; they wrap [inventory.ErrInvalid].
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	if c.Name != "" && !nameForm.MatchString(c.Name) {
		bad("name %q: want up to 41 of a-z, 0-9, dot, dash and underscore", c.Name)
	}
	switch {
	case (c.DCKind == "") != (c.DCImage == ""):
		bad("the data centre's router needs both a kind and an image, or none of them")
	case c.DCKind != "" && (!kindForm.MatchString(c.DCKind) || slices.Contains(noRouter, c.DCKind)):
		bad("%q is no kind of router; see containerlab.dev/manual/kinds", c.DCKind)
	case strings.ContainsAny(c.DCImage, " \t\r\n"):
		bad("image %q has spaces", c.DCImage)
	}
	return errors.Join(errs...)
}

// Render gives all files of a lab, sorted by path. It is pure: equal cities give
// equal files.
func Render(inv inventory.Inventory, top netlab.Topology, cfg Config) ([]File, error) {
	cfg.Name = cmp.Or(cfg.Name, "wardnet")
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	w := writer{cfg: cfg, inv: inv, top: top, doc: document{Name: cfg.Name}, files: map[string]File{}}
	if cfg.DCKind != "" {
		r, behind, err := vendorRouter(inv, top, cfg)
		if err != nil {
			return nil, err
		}
		w.router, w.top = &r, behind
	}
	if err := w.nodes(); err != nil {
		return nil, err
	}
	w.links()
	if err := w.common(); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(w.files), func(a, b File) int { return cmp.Compare(a.Path, b.Path) }), nil
}

// writer collects the files of one lab.
type writer struct {
	cfg    Config
	inv    inventory.Inventory
	top    netlab.Topology
	router *router // a vendor's in the data centre; nil: FRR
	doc    document
	files  map[string]File
}

func (w *writer) add(path string, text []byte) {
	w.files[path] = File{Path: path, Mode: 0o644, Text: text}
}

// node is the name of a namespace's node: without the lab's prefix.
func (w *writer) node(ns string) string { return strings.TrimPrefix(ns, w.top.Prefix+"-") }

// common adds what is not any one node's.
func (w *writer) common() error {
	topology, err := w.doc.encode("Written by wardnet lab containerlab. NOT RUN by Wardnet's makers; see README.md.")
	if err != nil {
		return err
	}
	var city, about bytes.Buffer
	if err := inventory.Encode(&city, w.inv); err != nil {
		return fmt.Errorf("write the inventory: %w", err)
	}
	var devices []string
	for _, s := range w.top.Sites {
		devices = append(devices, string(s.Device))
	}
	err = readme.Execute(&about, map[string]any{
		"Name": w.cfg.Name, "Image": Image, "Topology": TopologyFile, "Router": w.router,
		"Controller": "clab-" + w.cfg.Name + "-ctl", "Devices": strings.Join(devices, " "),
	})
	if err != nil {
		return fmt.Errorf("write the README: %w", err)
	}
	w.add(TopologyFile, topology)
	w.add("README.md", about.Bytes())
	w.add("Dockerfile", dockerfile)
	w.add("forever.sh", forever)
	w.add("inventory.yaml", city.Bytes())
	w.add("bundles/README", []byte("The devices' enrolment bundles, each DEVICE.json, for their owner alone.\n"))
	return nil
}

// Write writes the files below dir, which must not exist, be empty, or hold a
// lab that was written before: its nodes' files are then removed first. All else
// in the directory stays.
func Write(dir string, files []File) error {
	there, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: directory of the topology: %w", inventory.ErrInvalid, err)
	}
	ours := slices.ContainsFunc(there, func(e fs.DirEntry) bool { return e.Name() == TopologyFile })
	if len(there) > 0 && !ours {
		return fmt.Errorf("%w: %s holds other files; name a new directory", inventory.ErrConflict, dir)
	}
	if err := os.RemoveAll(filepath.Join(dir, nodesDir)); err != nil {
		return fmt.Errorf("remove the topology that was there: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write the topology: %w", err)
		}
		if err := os.WriteFile(path, f.Text, f.Mode); err != nil {
			return fmt.Errorf("write the topology: %w", err)
		}
	}
	return nil
}
