package shape

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/edge/render"
)

// pref is the preference of our filters; others' are not touched.
const pref = 30583

var deviceName = regexp.MustCompile(`^wi[0-9a-f]{8}$`)

func ours(device string) bool { return deviceName.MatchString(device) }

// observed is what the kernel runs.
type observed struct {
	tree     map[string]tree     // by interface that queues
	clsact   map[string]bool     // interfaces that can redirect
	redirect map[string]redirect // by interface
}

// tree is one HTB.
type tree struct {
	classes map[uint32]netlink.HtbClass // by minor number
	limits  map[uint32]uint32           // of the leaves, bytes, by the class above
	program []insn                      // that chooses the class
}

// redirect is a filter that sends an interface's packets to a queue.
type redirect struct {
	to      string
	program []insn
}

func (r redirect) equal(o redirect) bool {
	return r.to == o.to && slices.Equal(r.program, o.program)
}

// like says whether t has the shape of s, so that changing numbers will do.
func (t tree) like(s render.Shaper) bool {
	if len(t.classes) != len(s.Classes)+1 || len(t.limits) != len(s.Classes) || !slices.Equal(t.program, classify(len(s.Classes)-2)) {
		return false
	}
	for i := range s.Classes {
		_, leaf := t.limits[minor(i)]
		if _, class := t.classes[minor(i)]; !class || !leaf {
			return false
		}
	}
	_, root := t.classes[1]
	return root
}

// adjust are the lines for tc that give t, which is like s, the numbers of s.
func (t tree) adjust(s render.Shaper) []string {
	var out []string
	if c := t.classes[1]; c.Rate != s.Rate/8 || c.Ceil != s.Rate/8 {
		out = append(out, rootLine(s, "change"))
	}
	for i, w := range s.Classes {
		c := t.classes[minor(i)]
		if c.Rate != w.Rate/8 || c.Ceil != w.Ceil/8 || int(c.Prio) != w.Prio {
			out = append(out, classLine(s, i, "change"))
		}
		if int(t.limits[minor(i)]) != max(w.Limit, most(s)) {
			out = append(out, leafLine(s, i))
		}
	}
	return out
}

// treeLines are the lines for tc that build the whole of s.
func treeLines(s render.Shaper) []string {
	last := len(s.Classes) - 1
	out := []string{
		fmt.Sprintf("qdisc add dev %s root handle 1: htb default %x", s.Device, minor(last)),
		rootLine(s, "add"),
	}
	for i := range s.Classes {
		out = append(out, classLine(s, i, "add"), leafLine(s, i))
	}
	return append(out, fmt.Sprintf("filter add dev %s parent 1: pref %d protocol all bpf bytecode '%s'", s.Device, pref, bytecode(classify(last-1))))
}

func rootLine(s render.Shaper, verb string) string {
	return fmt.Sprintf("class %s dev %s parent 1: classid 1:1 htb rate %dbit ceil %dbit burst %d cburst %d quantum %d overhead %d",
		verb, s.Device, s.Rate, s.Rate, burst(s.Rate), burst(s.Rate), quantum, s.Overhead)
}

func classLine(s render.Shaper, i int, verb string) string {
	c := s.Classes[i]
	return fmt.Sprintf("class %s dev %s parent 1:1 classid 1:%x htb rate %dbit ceil %dbit burst %d cburst %d prio %d quantum %d overhead %d",
		verb, s.Device, minor(i), c.Rate, c.Ceil, burst(c.Rate), burst(c.Ceil), c.Prio, quantum, s.Overhead)
}

// leafLine is the queue of a class: a plain one with a limit, as a TBF at a rate
// that never holds anything back, because that one also cuts what is longer than
// its burst.
func leafLine(s render.Shaper, i int) string {
	return fmt.Sprintf("qdisc replace dev %s parent 1:%x handle %x: tbf rate 1000tbit burst %d limit %d",
		s.Device, minor(i), minor(i), most(s), max(s.Classes[i].Limit, most(s)))
}

// most is the longest packet a queue takes uncut, bytes.
func most(s render.Shaper) int {
	if s.Cut {
		return max(s.MTU, 1500) + 100
	}
	return merged
}

// merged is more than the longest packet that the kernel merges, bytes.
const merged = 70_000

// quantum is what a class sends before its equals have their turn, bytes.
const quantum = 1514

// burst is what a class may send at once, bytes: a millisecond's worth.
func burst(rate uint64) uint64 { return max(rate/8000, 2*quantum) }

// question is what tc is asked for: the filters of an interface's queue, or
// those that redirect what it sends.
type question struct {
	dev   string
	queue bool
}

// read reads what the kernel runs.
func (q *Queues) read(ctx context.Context, links []netlink.Link) (observed, error) {
	o := observed{tree: map[string]tree{}, clsact: map[string]bool{}, redirect: map[string]redirect{}}
	var ask bytes.Buffer
	var asked []question
	names := map[int]string{}
	queues := map[int]bool{}
	for _, l := range links {
		at := l.Attrs()
		names[at.Index] = at.Name
		if l.Type() != "ifb" || !ours(at.Name) {
			continue
		}
		queues[at.Index] = true
		classes, err := netlink.ClassList(l, 0)
		if err != nil {
			return o, fmt.Errorf("read classes of %s: %w", at.Name, err)
		}
		t := tree{classes: map[uint32]netlink.HtbClass{}, limits: map[uint32]uint32{}}
		for _, c := range classes {
			if h, ok := c.(*netlink.HtbClass); ok {
				t.classes[h.Handle&0xffff] = *h
			}
		}
		o.tree[at.Name] = t
	}
	qdiscs, err := netlink.QdiscList(nil)
	if err != nil {
		return o, fmt.Errorf("read queues: %w", err)
	}
	for _, d := range qdiscs {
		at := d.Attrs()
		name, queue := names[at.LinkIndex], queues[at.LinkIndex]
		switch d := d.(type) {
		case *netlink.Clsact:
			o.clsact[name] = true
			asked = append(asked, question{name, false})
			fmt.Fprintf(&ask, "filter show dev %s egress\n", name)
		case *netlink.Tbf:
			if queue {
				o.tree[name].limits[at.Parent&0xffff] = d.Limit
			}
		case *netlink.Htb:
			if queue {
				asked = append(asked, question{name, true})
				fmt.Fprintf(&ask, "filter show dev %s parent 1:\n", name)
			}
		}
	}
	if len(asked) == 0 {
		return o, nil
	}
	out, err := program.Run(ctx, limit, ask.Bytes(), q.tc, "-j", "-b", "-")
	if err != nil {
		return o, fmt.Errorf("read filters of queues: %w", err)
	}
	answers := json.NewDecoder(bytes.NewReader(out))
	for _, a := range asked {
		var filters []filter
		if err := answers.Decode(&filters); err != nil && !errors.Is(err, io.EOF) {
			return o, fmt.Errorf("read filters of %s: %w", a.dev, err)
		}
		o.add(a.dev, a.queue, filters)
	}
	return o, nil
}

// filter is what we read of `tc -j filter show`.
type filter struct {
	Pref    int    `json:"pref"`
	Kind    string `json:"kind"`
	Options struct {
		Bytecode struct {
			Insns []insn `json:"insns"`
		} `json:"bytecode"`
		Actions []struct {
			Kind      string `json:"kind"`
			Action    string `json:"mirred_action"`
			Direction string `json:"direction"`
			ToDev     string `json:"to_dev"`
		} `json:"actions"`
	} `json:"options"`
}

func (o observed) add(dev string, queue bool, filters []filter) {
	for _, f := range filters {
		if f.Pref != pref {
			continue
		}
		if queue {
			if t := o.tree[dev]; f.Options.Bytecode.Insns != nil {
				t.program = f.Options.Bytecode.Insns
				o.tree[dev] = t
			}
			continue
		}
		r := o.redirect[dev] // a filter that is not quite ours is one to replace
		if f.Options.Bytecode.Insns != nil {
			r.program = f.Options.Bytecode.Insns
		}
		for _, a := range f.Options.Actions {
			if a.Kind == "mirred" && a.Action == "redirect" && a.Direction == "egress" {
				r.to = a.ToDev
			}
		}
		o.redirect[dev] = r
	}
}
