package simhost

import (
	"hash/fnv"
	"math"
	"time"

	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/inventory"
)

// Traffic is computed from the time alone, never by a ticking goroutine: the
// rate of a site is a sum of cosines, so that what passed between two instants
// has a closed form, and noise comes from a hash of seed, name and time.

const (
	day       = 24 * time.Hour
	localNoon = 5 * time.Hour // 12:00 in UTC+7
	packet    = 700.0         // bytes, mean
	overhead  = 1.06          // outer headers of a tunnel on its circuit
	idleRate  = 400.0         // bytes/s each way of a standby tunnel: BFD, BGP, keepalive
	grain     = 10 * time.Second
)

// wave is one term of a rate, relative to its mean.
type wave struct {
	amplitude float64
	period    time.Duration
	peak      time.Duration // after the Unix epoch, modulo period
}

// flow is the demand of one site in one direction.
type flow struct {
	seed  uint64
	mean  float64 // bytes/s
	waves [4]wave
}

// newFlow makes the demand of name: mean bytes/s within a factor of three,
// high in office hours. The amplitudes sum to under 0.9 with the noise's 0.1,
// so the rate never falls to zero and counters only rise.
func newFlow(seed uint64, name string, mean float64) flow {
	s := mix(seed, name, 0)
	spread := math.Pow(3, unit(s)-0.5)
	shift := time.Duration(unit(mix(s, "shift", 0)) * float64(time.Hour))
	return flow{seed: s, mean: mean * spread, waves: [4]wave{
		{0.50, day, localNoon + shift - 30*time.Minute},
		{0.15, day / 2, localNoon - 2*time.Hour + shift},
		{0.08, 437 * time.Second, shift},
		{0.05, 97 * time.Second, shift * 2},
	}}
}

// octets is what the flow carried from a to b, in bytes.
func (f flow) octets(a, b time.Time) float64 {
	if !b.After(a) {
		return 0
	}
	sum := b.Sub(a).Seconds() + f.wobble(b) - f.wobble(a)
	for _, w := range f.waves {
		k := 2 * math.Pi / w.period.Seconds()
		phase := func(t time.Time) float64 {
			return k * (time.Duration(t.UnixNano()%int64(w.period)) - w.peak).Seconds()
		}
		// The phase is taken modulo the period, which keeps it exact.
		sum += w.amplitude / k * (math.Sin(phase(b)) - math.Sin(phase(a)))
	}
	return f.mean * sum
}

// load is the rate at t relative to the mean, without the noise.
func (f flow) load(t time.Time) float64 {
	sum := 1.0
	for _, w := range f.waves {
		x := (time.Duration(t.UnixNano()%int64(w.period)) - w.peak).Seconds()
		sum += w.amplitude * math.Cos(2*math.Pi*x/w.period.Seconds())
	}
	return sum
}

// wobble is noise on the total, in seconds of mean rate: a random value at each
// grain, straight in between, so that its slope stays under 0.1.
func (f flow) wobble(t time.Time) float64 {
	n := t.UnixNano() / int64(grain)
	x := float64(t.UnixNano()%int64(grain)) / float64(grain)
	at := func(n int64) float64 { return unit(mix(f.seed, "wobble", n)) }
	return 0.1 * grain.Seconds() * (at(n)*(1-x) + at(n+1)*x)
}

// totals accumulate one direction.
type totals struct{ octets, pkts, errors, discards float64 }

func (t *totals) add(octets, loss float64) {
	p := octets / packet
	t.octets += octets
	t.pkts += p
	t.errors += p * 1e-6
	t.discards += p * (1e-5 + 0.2*loss)
}

func (t totals) plus(o totals, factor float64) totals {
	return totals{
		t.octets + factor*o.octets, t.pkts + factor*o.pkts,
		t.errors + factor*o.errors, t.discards + factor*o.discards,
	}
}

func counters(in, out totals) agent.Counters {
	return agent.Counters{
		InOctets: uint64(in.octets), OutOctets: uint64(out.octets),
		InPkts: uint64(in.pkts), OutPkts: uint64(out.pkts),
		InErrors: uint64(in.errors), OutDiscards: uint64(out.discards),
	}
}

// delay is the one-way latency a kind of circuit adds, in milliseconds.
func delay(k inventory.CircuitKind) float64 {
	switch k {
	case inventory.Metronet:
		return 1.2
	case inventory.FTTH:
		return 2.5
	case inventory.FiveG:
		return 9
	case inventory.LTE:
		return 19
	}
	return 2
}

// probe is the quality of a path at t: its circuits' delay, noise that changes
// every second, and the impairments.
func probe(f flow, name string, oneWay, loss, extra float64, t time.Time) agent.Probe {
	sec := t.Unix()
	noise := func(what string) float64 { return unit(mix(f.seed, name+what, sec)) }
	p := agent.Probe{LossRatio: loss}
	if noise("lost") > 0.97 { // now and then one probe of a hundred is lost
		p.LossRatio = 1 - (1-loss)*0.99
	}
	p.LatencyMS = 2*oneWay*(1+0.06*f.load(t)+0.05*noise("lat")) + extra
	p.JitterMS = oneWay*(0.1+0.3*noise("jit")) + extra*0.1*noise("imp")
	return p
}

// mix hashes seed, s and n (FNV-1a, then a finaliser against its weak low bits).
func mix(seed uint64, s string, n int64) uint64 {
	h := fnv.New64a()
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(seed>>(8*i)), byte(uint64(n)>>(8*i))
	}
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(s))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// unit maps a hash to [0,1).
func unit(x uint64) float64 { return float64(x>>11) / (1 << 53) }
