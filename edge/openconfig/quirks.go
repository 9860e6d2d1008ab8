package openconfig

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/wardnet/wardnet/inventory"
)

// Quirks are how a platform differs from the models and from the gNMI
// specification: data, not code. What is left empty is found out at [Open] or
// has the default that its comment names.
type Quirks struct {
	// Origin of paths: "openconfig", "none" for empty; "": whichever answers.
	Origin string `yaml:"origin"`
	// Target is the name that the prefix of every request carries; none.
	Target string `yaml:"target"`
	// Encoding is "json_ietf" or "json"; "": what the device says it has, the
	// first of the two that answers.
	Encoding string `yaml:"encoding"`
	// Read is "get" or "subscribe" (ONCE); "": Get unless it is Unimplemented.
	Read string `yaml:"read"`
	// Names is "modules" or "bare": whether what is written carries module
	// names (RFC 7951 §4); "": modules with json_ietf, none with json.
	Names string `yaml:"names"`
	// Commit is "native", "emulated" or "": asked. A platform that has the
	// Commit Confirmed extension and does not return in truth is "emulated".
	Commit string `yaml:"commit"`
	// Without names the models that the device lacks: "acl", "bgp", "bfd",
	// "routing-policy" (preferences, networks), "static-routes" (networks).
	// Those that Capabilities does not list beside openconfig-interfaces, or
	// whose path the device refuses to read, are added when it is opened.
	Without []string `yaml:"without"`
	// Loopback is the interface that the driver makes for the device's
	// address; nobody else may use it. Default "Loopback99".
	Loopback string `yaml:"loopback"`
	// NetworkInstance, BGP and Static name the instances; "DEFAULT", "BGP" and
	// "DEFAULT".
	NetworkInstance string `yaml:"network_instance"`
	BGP             string `yaml:"bgp"`
	Static          string `yaml:"static"`
	// MTUOverhead is what the platform's interface MTU counts beyond IP, in
	// bytes, e.g. 14 for Ethernet's header.
	MTUOverhead int `yaml:"mtu_overhead"`
	// MaxMessage is the largest request the device takes, in bytes; 0: as
	// large as it comes. MaxAnswer bounds what is read; default 64 MiB.
	MaxMessage int `yaml:"max_message"`
	MaxAnswer  int `yaml:"max_answer"`
	// NotRun says why nobody ran this platform; empty: it was run.
	NotRun string `yaml:"not_run"`
}

//go:embed quirks.yaml
var builtIn []byte

// Platforms lists the names that [Platform] knows.
func Platforms() []string {
	all, err := ParseQuirks(builtIn)
	if err != nil {
		panic(fmt.Sprintf("openconfig: quirks.yaml: %v", err)) // a test reads it
	}
	return slices.Sorted(maps.Keys(all))
}

// Platform returns the quirks of a platform that ships with the driver;
// [inventory.ErrInvalid] with the known names when there is none.
func Platform(name string) (Quirks, error) {
	all, err := ParseQuirks(builtIn)
	if err != nil {
		return Quirks{}, err
	}
	q, ok := all[name]
	if !ok {
		return Quirks{}, fmt.Errorf("%w: no OpenConfig platform %q; known: %s", inventory.ErrInvalid, name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	return q, nil
}

// ParseQuirks reads platforms by name from YAML. Every fault is named, and
// wraps [inventory.ErrInvalid].
func ParseQuirks(b []byte) (map[string]Quirks, error) {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	var all map[string]Quirks
	if err := d.Decode(&all); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: platforms: %w", inventory.ErrInvalid, err)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := all[name].Validate(); err != nil {
			errs = append(errs, fmt.Errorf("platform %q: %w", name, err))
		}
	}
	return all, errors.Join(errs...)
}

// Validate reports all faults at once, wrapped in [inventory.ErrInvalid].
func (q Quirks) Validate() error {
	var errs []error
	oneOf := func(field, got string, allowed ...string) {
		if got != "" && !slices.Contains(allowed, got) {
			errs = append(errs, fmt.Errorf("%w: %s %q is not one of %s", inventory.ErrInvalid, field, got, strings.Join(allowed, ", ")))
		}
	}
	oneOf("origin", q.Origin, "openconfig", "none")
	oneOf("encoding", q.Encoding, "json_ietf", "json")
	oneOf("read", q.Read, "get", "subscribe")
	oneOf("names", q.Names, "modules", "bare")
	oneOf("commit", q.Commit, "native", "emulated")
	for _, m := range q.Without {
		oneOf("without", m, modelsBeside...)
	}
	for field, n := range map[string]int{"mtu_overhead": q.MTUOverhead, "max_message": q.MaxMessage, "max_answer": q.MaxAnswer} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%w: %s %d is negative", inventory.ErrInvalid, field, n))
		}
	}
	return errors.Join(errs...)
}

// modelsBeside are those that a device may lack.
var modelsBeside = []string{"acl", "bfd", "bgp", "routing-policy", "static-routes"}

func (q Quirks) lacks(model string) bool { return slices.Contains(q.Without, model) }

// withDefaults fills the names that are not found out.
func (q Quirks) withDefaults() Quirks {
	for _, d := range []struct {
		field *string
		value string
	}{{&q.Loopback, "Loopback99"}, {&q.NetworkInstance, "DEFAULT"}, {&q.BGP, "BGP"}, {&q.Static, "DEFAULT"}} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if q.MaxAnswer == 0 {
		q.MaxAnswer = 64 << 20
	}
	return q
}
