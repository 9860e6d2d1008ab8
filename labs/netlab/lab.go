// Package netlab builds a real city in network namespaces: carriers, an
// exchange, hubs and wards with a host per segment, a data centre with real
// services, the controller and the agents. Nothing of the overlay is configured
// by the lab: the agents enrol and get everything from the controller.
//
// What a lab consists of is a value, [Topology]; the rest brings it about.
package netlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// DefaultDir is where a lab is kept when nothing else is said.
const DefaultDir = "/var/lib/wardnet-lab"

// stateFile says, in a lab's directory, what the lab is.
const stateFile = "lab.json"

// Config says what lab to build and where.
type Config struct {
	Shape
	Wardnet string // path of the wardnet program
	Edge    string // path of the wardnet-edge program
	Dir     string // directory of the lab, made when missing; default DefaultDir
	// Sample is the inventory that the wards are taken from.
	Sample   inventory.Inventory
	Progress io.Writer // one line per step; nil: silent
}

// state is what a lab's directory remembers.
type state struct {
	Shape   Shape     `json:"shape"`
	Wardnet string    `json:"wardnet"`
	Edge    string    `json:"edge"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds_up"` // from the start of "up" until all was well; 0: not yet
}

// Lab is a lab in a directory, up or half up.
type Lab struct {
	Dir      string
	City     inventory.Inventory
	Topology Topology

	state    state
	sample   inventory.Inventory
	tools    tools
	procs    *processes
	progress io.Writer
	begin    time.Time
}

// Open finds the lab in a directory. The error wraps [inventory.ErrNotFound]
// when there is none.
func Open(dir string, sample inventory.Inventory) (*Lab, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no lab in %s; bring one up with 'wardnet lab up'", inventory.ErrNotFound, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the lab: %w", err)
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("open the lab: %s: %w", filepath.Join(dir, stateFile), err)
	}
	return newLab(dir, s, sample, nil)
}

func newLab(dir string, s state, sample inventory.Inventory, progress io.Writer) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("directory of the lab: %w", err)
	}
	l := &Lab{
		Dir: dir, state: s, sample: sample, progress: progress, begin: time.Now(),
		procs: &processes{dir: dir, ended: map[string]error{}},
	}
	if l.City, l.Topology, err = City(sample, s.Shape); err != nil {
		return nil, err
	}
	if l.tools, err = findTools(); err != nil {
		return nil, err
	}
	return l, nil
}

// Shape is what the lab was asked to be.
func (l *Lab) Shape() Shape { return l.state.Shape }

// save writes the state whole or not at all.
func (l *Lab) save() error {
	b, err := json.MarshalIndent(l.state, "", "  ")
	if err != nil {
		return fmt.Errorf("save the lab's state: %w", err)
	}
	next := filepath.Join(l.Dir, stateFile+".next")
	if err := os.WriteFile(next, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the lab's state: %w", err)
	}
	return os.Rename(next, filepath.Join(l.Dir, stateFile))
}

func (l *Lab) path(elem ...string) string {
	return filepath.Join(append([]string{l.Dir}, elem...)...)
}

// Data is the data directory of the lab's controller; its unix socket is there.
func (l *Lab) Data() string { return l.path("data") }

// StateDir is the state directory of a device.
func (l *Lab) StateDir(id inventory.DeviceID) string { return l.path("edges", string(id)) }

// say writes one line of progress.
func (l *Lab) say(format string, args ...any) {
	if l.progress != nil {
		fmt.Fprintf(l.progress, "lab %6.1f s  %s\n", time.Since(l.begin).Seconds(), fmt.Sprintf(format, args...))
	}
}

// same says whether the lab is of this shape.
func (l *Lab) same(s Shape) bool {
	return reflect.DeepEqual(l.state.Shape.withDefaults(), s.withDefaults())
}

// Person is one of the lab's users of the controller.
type Person string

// The lab's people. Nobody approves what the own hand made.
const (
	Engineer Person = "ky-su"       // engineer, NOC, auditor
	Approver Person = "truong-nhom" // engineer
	Security Person = "an-toan"     // security
	admin    Person = "quan-tri"
)

var roles = map[Person][]client.Role{
	Engineer: {client.RoleEngineer, client.RoleNOC, client.RoleAuditor},
	Approver: {client.RoleEngineer},
	Security: {client.RoleSecurity},
}

// Client speaks to the lab's controller as a person, over its unix socket.
func (l *Lab) Client(p Person) (*client.Client, error) {
	return client.New(client.Config{Server: "unix://" + filepath.Join(l.Data(), "wardnet.sock"), TokenFile: l.path("people", string(p)+".token")})
}

// wait polls done every 100 ms until it says yes; the error names what it
// waited for and what was seen last.
func (l *Lab) wait(ctx context.Context, limit time.Duration, what string, done func(context.Context) (bool, string, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s took over %s", what, limit))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, shown := "", time.Now()
	for {
		ok, now, err := done(ctx)
		switch {
		case err == nil && ok:
			return nil
		case err == nil:
			last = now
		case ctx.Err() == nil && !errors.Is(err, client.ErrUnavailable):
			return fmt.Errorf("%s: %w", what, err)
		}
		if time.Since(shown) > 2*time.Second {
			l.say("%s: %s", what, last)
			shown = time.Now()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last seen: %s; logs are in %s", context.Cause(ctx), last, l.path("run"))
		case <-tick.C:
		}
	}
}
