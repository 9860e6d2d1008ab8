package clab

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"
)

// document is a topology definition file as containerlab reads it
// (containerlab.dev/manual/topo-def-file), as far as the lab needs it.
type document struct {
	Name     string   `yaml:"name"`
	Topology topology `yaml:"topology"`
}

type topology struct {
	Kinds map[string]node `yaml:"kinds"` // what nodes of a kind have in common
	Nodes map[string]node `yaml:"nodes"`
	Links []link          `yaml:"links"`
}

// node is a container. Relative paths are relative to the topology file; exec
// lines are run without a shell once the node and its links are there.
type node struct {
	Kind          string            `yaml:"kind,omitempty"`
	Image         string            `yaml:"image,omitempty"`
	NetworkMode   string            `yaml:"network-mode,omitempty"`
	StartupConfig string            `yaml:"startup-config,omitempty"`
	Cmd           string            `yaml:"cmd,omitempty"`
	Ports         []string          `yaml:"ports,omitempty"`
	Binds         []string          `yaml:"binds,omitempty"`
	Sysctls       map[string]string `yaml:"sysctls,omitempty"`
	Exec          []string          `yaml:"exec,omitempty"`
	Labels        map[string]string `yaml:"labels,omitempty"`
}

// link is one of type veth in the extended format.
type link struct {
	Type      string            `yaml:"type"`
	Endpoints []endpoint        `yaml:"endpoints"`
	MTU       int               `yaml:"mtu"` // bytes
	Labels    map[string]string `yaml:"labels,omitempty"`
}

type endpoint struct {
	Node      string `yaml:"node"`
	Interface string `yaml:"interface"`
	MAC       string `yaml:"mac,omitempty"`
}

// encode writes the document below a comment.
func (d document) encode(comment string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n", comment)
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("write the topology: %w", err)
	}
	return b.Bytes(), enc.Close()
}
