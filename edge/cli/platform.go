package cli

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

//go:embed platforms/*.yaml
var files embed.FS

// platform is what a file in platforms says of one kind of device.
type platform struct {
	Name    string      `yaml:"name"`
	Status  string      `yaml:"status"` // "run", or "not run" where no device was at hand
	Holds   []edge.Kind `yaml:"holds"`
	Session yaml.Node   `yaml:"session"` // scrapligo's definition
	Running struct {
		Commands []string `yaml:"commands"`
		End      pattern  `yaml:"end"` // last line of each whole answer
	} `yaml:"running"`
	Errors   []pattern `yaml:"errors"` // lines by which the device refuses
	Quiet    bool      `yaml:"quiet"`  // any answer to a line of configuration is a refusal
	Notes    []pattern `yaml:"notes"`  // lines of an answer that are no refusal
	Identity struct {
		Command string  `yaml:"command"`
		Match   pattern `yaml:"match"` // group serial
	} `yaml:"identity"`
	Save struct {
		Command string  `yaml:"command"`
		Done    pattern `yaml:"done"`
	} `yaml:"save"`
	Timer   *timer    `yaml:"timer"` // nil: the device has no return of its own
	Observe []observe `yaml:"observe"`
	Names   pattern   `yaml:"names"` // what a name may be to stand in a line
	Render  []part    `yaml:"render"`
	Ours    []owned   `yaml:"ours"`
	Theirs  []pattern `yaml:"theirs"` // within ours, and of no interest
	Read    []pattern `yaml:"read"`   // paths and the fields in them
	Assumed []string  `yaml:"assumed"`
	Orders  struct {
		Order   []rank    `yaml:"order"`
		Leave   []rewrite `yaml:"leave"`
		Negate  []rewrite `yaml:"negate"`
		Replace []pattern `yaml:"replace"`
		Twin    []pattern `yaml:"twin"`
		Element struct {
			Match  pattern `yaml:"match"`
			Anchor pattern `yaml:"anchor"`
			Line   string  `yaml:"line"`
		} `yaml:"element"`
	} `yaml:"write"`
}

// timer is a device's own return (its commit is confirmed or it takes it back).
type timer struct {
	Enter  string        `yaml:"enter"` // $1: the time, in units
	Keep   string        `yaml:"keep"`
	Cancel string        `yaml:"cancel"`
	Unit   time.Duration `yaml:"unit"`
	Most   int           `yaml:"most"` // units
}

type observe struct {
	Command string  `yaml:"command"`
	BGP     pattern `yaml:"bgp"` // a line of an established session; group peer
	BFD     pattern `yaml:"bfd"`
}

type part struct {
	Part string `yaml:"part"`
	Text string `yaml:"text"`
	tmpl *template.Template
}

type owned struct {
	Match  pattern `yaml:"match"`
	Marker string  `yaml:"marker"` // path under it without which it is somebody else's
}

type rank struct {
	Match     pattern `yaml:"match"`
	Exclusive bool    `yaml:"exclusive"`
}

type rewrite struct {
	Match pattern `yaml:"match"`
	Line  string  `yaml:"line"`
}

// first applies the first rule that is about s; "" where none is, or it has no
// line.
func first(rules []rewrite, s string) string {
	for _, r := range rules {
		if r.Match.is(s) {
			return r.Match.ReplaceAllString(s, r.Line)
		}
	}
	return ""
}

// pattern is a regular expression; the zero one matches nothing.
type pattern struct{ *regexp.Regexp }

// UnmarshalText compiles it.
func (p *pattern) UnmarshalText(b []byte) (err error) {
	p.Regexp, err = regexp.Compile(string(b))
	return err
}

func (p pattern) is(s string) bool { return p.Regexp != nil && p.MatchString(s) }

// groups gives the named groups of a match, nil for none.
func (p pattern) groups(s string) map[string]string {
	if p.Regexp == nil {
		return nil
	}
	m := p.FindStringSubmatch(s)
	if m == nil {
		return nil
	}
	out := map[string]string{}
	for i, name := range p.SubexpNames() {
		if name != "" {
			out[name] = m[i]
		}
	}
	return out
}

func anyIs(list []pattern, s string) bool {
	return slices.ContainsFunc(list, func(p pattern) bool { return p.is(s) })
}

// parts are the templates a platform may have; rows that it lacks hold nothing.
var parts = []string{"loopback", "network", "overlay", "family", "preference", "timing", "bgp", "neighbour"}

// parsePlatform reads a definition, strictly.
func parsePlatform(text []byte) (*platform, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	p := &platform{}
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("%w: platform definition: %w", inventory.ErrInvalid, err)
	}
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: platform %s: %w", inventory.ErrInvalid, p.Name, fmt.Errorf(format, args...)))
	}
	if p.Status != "run" && p.Status != "not run" {
		fault(`status %q is neither "run" nor "not run"`, p.Status)
	}
	if p.Name == "" || len(p.Holds) == 0 || len(p.Running.Commands) == 0 || p.Running.End.Regexp == nil || p.Names.Regexp == nil || p.Session.IsZero() {
		fault("name, holds, session, running, end or names is missing")
	}
	for i := range p.Render {
		r := &p.Render[i]
		if !slices.Contains(parts, r.Part) {
			fault("part %q is none of %s", r.Part, strings.Join(parts, ", "))
		}
		var err error
		if r.tmpl, err = template.New(r.Part).Option("missingkey=error").Parse(r.Text); err != nil {
			fault("template of part %s: %w", r.Part, err)
		}
	}
	if t := p.Timer; t != nil && (t.Enter == "" || t.Keep == "" || t.Cancel == "" || t.Unit <= 0 || t.Most <= 0) {
		fault("the timer lacks enter, keep, cancel, unit or most")
	}
	return p, errors.Join(errs...)
}

// platforms are those of this package, read once.
var platforms = sync.OnceValues(func() (map[string]*platform, error) {
	names, err := fs.Glob(files, "platforms/*.yaml")
	if err != nil {
		return nil, err
	}
	out := map[string]*platform{}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		p, err := parsePlatform(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(name), err)
		}
		out[p.Name] = p
	}
	return out, nil
})

func platformNamed(name string) (*platform, error) {
	all, err := platforms()
	if err != nil {
		return nil, err
	}
	p, ok := all[name]
	if !ok {
		return nil, fmt.Errorf("%w: there is no CLI platform %q; take one of %s", inventory.ErrInvalid, name, strings.Join(names(all), ", "))
	}
	return p, nil
}

func names(all map[string]*platform) []string {
	var out []string
	for name := range all {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Platform is a kind of device that this package has a definition of.
type Platform struct {
	Name string
	// Run says whether the definition was ever used on a device of that kind.
	Run bool
	// Returns says whether the device takes an unconfirmed change back by
	// itself; else the driver does, from the controller.
	Returns bool
	Holds   []edge.Kind
}

// Platforms lists the definitions by name.
func Platforms() ([]Platform, error) {
	all, err := platforms()
	if err != nil {
		return nil, err
	}
	var out []Platform
	for _, name := range names(all) {
		p := all[name]
		out = append(out, Platform{Name: name, Run: p.Status == "run", Returns: p.Timer != nil, Holds: slices.Clone(p.Holds)})
	}
	return out, nil
}
