package render

import (
	"cmp"
	"slices"

	"github.com/wardnet/wardnet/edge"
)

// Shaper is the queue of one circuit: what its tunnels carry and what else
// leaves by its port goes through one HTB, on an interface of its own, before it
// is encrypted, while classes can still be told apart.
type Shaper struct {
	Circuit string
	Device  string   // the interface that queues: "wi" and 8 hex digits
	Tunnels []string // overlay interfaces whose packets it takes
	// Port is the circuit's own port, whose packets it takes too (what goes to
	// the internet there) but those that carry Mark: they were queued before
	// they were encrypted. Empty: the port is left alone.
	Port string
	Mark uint32
	MTU  int    // of the circuit, bytes
	Rate uint64 // bit/s, of what the circuit has
	// Overhead is what a packet of a tunnel grows by on the wire, bytes.
	Overhead int
	// Cut says that packets the kernel has merged are cut to size here: at this
	// rate a merged one would hold up the others for milliseconds.
	Cut     bool
	Classes []ShapedClass // [ControlClass], those of the configuration in order, best effort
}

// ShapedClass is one queue of a [Shaper].
type ShapedClass struct {
	Name  string
	Rate  uint64 // bit/s, guaranteed
	Ceil  uint64 // bit/s, with what the others leave
	Prio  int    // who takes of what is left, 0 first
	Limit int    // bytes that may wait
}

// Names of the two queues that are not of the configuration.
const (
	ControlClass    = "control"     // routing's own packets, DSCP CS6, and what is not IP
	BestEffortClass = "best-effort" // everything without a class
)

const (
	controlShare = 0.02
	controlCeil  = 0.2 // a flood that pretends to be routing gets no more
	headroom     = 0.95
	// cutBelow is the rate under which a merged packet of 64 KiB takes longer
	// than 1.7 ms.
	cutBelow = 300_000_000
	// queueMS bounds how long a packet waits in a full queue at full rate.
	queueMS = 100
	// leastQueue is room for ten packets.
	leastQueue = 10 * 1514
)

// Shape lists the shapers of a box: of every circuit with a tunnel and a known
// rate, at that rate less 5 %, so that the queue builds up here and not at the
// carrier. The rate is the contracted one, or that of uploads where a circuit
// was measured (by its name, bit/s) and carries less.
func Shape(in Input, uploads map[string]uint64) []Shaper {
	var out []Shaper
	for _, c := range in.Config.Circuits {
		s := Shaper{Circuit: c.Name, Device: "wi" + digest(c.Name), Port: c.Port, MTU: c.MTU, Mark: CircuitMark(c.Name)}
		for _, t := range in.Config.Tunnels {
			if t.Circuit != c.Name {
				continue
			}
			s.Tunnels = append(s.Tunnels, Interface(t))
			s.Overhead = max(s.Overhead, overhead(t))
			if t.Kind == edge.IPsec {
				s.Port = "" // what it sends has no mark to know it by
			}
		}
		if len(s.Tunnels) == 0 || c.UpBPS == 0 {
			continue
		}
		s.Tunnels = distinct(s.Tunnels)
		rate := uint64(c.UpBPS)
		if measured := uploads[c.Name]; measured != 0 {
			rate = min(rate, measured)
		}
		s.Rate = uint64(float64(rate) * headroom)
		s.Cut = s.Rate < cutBelow
		s.Classes = shapedClasses(in.Config.Classes, s.Rate)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Shaper) int { return cmp.Compare(a.Circuit, b.Circuit) })
	return once(out)
}

// once keeps each overlay interface with one shaper.
func once(list []Shaper) []Shaper {
	taken := map[string]bool{}
	for i := range list {
		list[i].Tunnels = slices.DeleteFunc(list[i].Tunnels, func(name string) bool {
			again := taken[name]
			taken[name] = true
			return again
		})
	}
	return list
}

// overhead is what the tunnel adds to a packet on Ethernet: WireGuard's or
// ESP's own with half its padding, UDP, IP, and the frame.
func overhead(t edge.Tunnel) int {
	const frame, udp = 18, 8
	ip := 20
	if t.Endpoint.Addr().Is6() {
		ip = 40
	}
	if t.Kind == edge.IPsec {
		return frame + ip + udp + 38 + 36 // ESP; VXLAN inside it, whose frame is counted already
	}
	return frame + ip + udp + 32 + 8
}

// shapedClasses divides a rate. What the classes leave is best effort's.
func shapedClasses(classes []edge.Class, rate uint64) []ShapedClass {
	part := func(share float64) uint64 { return max(uint64(float64(rate)*share), 8000) }
	sum := 0.0
	for _, c := range classes {
		sum += c.Share
	}
	const most = 1 - 2*controlShare
	scale := 1.0
	if sum > most {
		scale, sum = most/sum, most
	}
	out := []ShapedClass{{Name: ControlClass, Rate: part(controlShare), Ceil: part(controlCeil), Limit: queueLimit(rate, queueMS)}}
	for i, c := range classes {
		out = append(out, ShapedClass{
			Name: c.Name, Rate: part(c.Share * scale), Ceil: rate, Prio: min(1+i, 6),
			Limit: queueLimit(rate, min(c.LatencyMS/2, queueMS)),
		})
	}
	return append(out, ShapedClass{Name: BestEffortClass, Rate: part(1 - sum - controlShare), Ceil: rate, Prio: 7, Limit: queueLimit(rate, queueMS)})
}

// queueLimit is what a rate sends in so many milliseconds, bytes.
func queueLimit(rate uint64, ms int) int {
	return max(int(rate/8000)*ms, leastQueue)
}
