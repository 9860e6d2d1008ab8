package shape

import (
	"fmt"
	"strings"

	"github.com/wardnet/wardnet/edge/render"
)

// insn is one instruction of classic BPF, as tc lists it.
type insn struct {
	Code uint16 `json:"code"`
	JT   uint8  `json:"jt"`
	JF   uint8  `json:"jf"`
	K    uint32 `json:"k"`
}

// Operations of classic BPF (linux/bpf_common.h).
const (
	ldMark = 0x20 // BPF_LD|BPF_W|BPF_ABS, with offMark
	ldHalf = 0x28
	ldByte = 0x30
	and    = 0x54
	rsh    = 0x74
	add    = 0x04
	jeq    = 0x15
	jgt    = 0x25
	ret    = 0x06
	retA   = 0x16
)

// Offsets with a meaning of their own (linux/filter.h): the packet's mark, and
// its network header whatever the link is.
const (
	offMark = 0xfffff000 + 20
	offNet  = 0xfff00000
)

// all is what a filter returns for "mine"; 0 is "not mine".
const all = 0xffffffff

// unmeasured redirects what a tunnel sends, but for what measures its circuit.
var unmeasured = []insn{
	{Code: ldMark, K: offMark},
	{Code: and, K: render.ClassMask},
	{Code: jeq, JT: 0, JF: 1, K: render.MeasureMark},
	{Code: ret, K: 0},
	{Code: ret, K: all},
}

// unmarked redirects what does not carry mark in the bits that bind a packet to
// a circuit.
func unmarked(mark uint32) []insn {
	return []insn{
		{Code: ldMark, K: offMark},
		{Code: and, K: render.CircuitMask},
		{Code: jeq, JT: 0, JF: 1, K: mark},
		{Code: ret, K: 0},
		{Code: ret, K: all},
	}
}

// classify returns the HTB class of a packet: by its service class, the top
// byte of the mark, for n classes; else control for DSCP CS6 and for what is
// not IP; else best effort. The kernel's u32 classifier cannot do that: where it
// is built without marks it takes a match on one for a match on everything.
func classify(n int) []insn {
	control, best := classID(0), classID(n+1)
	return []insn{
		0:  {Code: ldMark, K: offMark},
		1:  {Code: rsh, K: 24},
		2:  {Code: jeq, JT: 3, K: 0},
		3:  {Code: jgt, JT: 13, K: uint32(n)},
		4:  {Code: add, K: control},
		5:  {Code: retA},
		6:  {Code: ldByte, K: offNet},
		7:  {Code: rsh, K: 4},
		8:  {Code: jeq, JT: 1, K: 4},
		9:  {Code: jeq, JT: 3, JF: 6, K: 6},
		10: {Code: ldByte, K: offNet + 1},
		11: {Code: and, K: 0xfc},
		12: {Code: jeq, JT: 3, JF: 4, K: 48 << 2},
		13: {Code: ldHalf, K: offNet},
		14: {Code: and, K: 0x3f << 6},
		15: {Code: jeq, JT: 0, JF: 1, K: 48 << 6},
		16: {Code: ret, K: control},
		17: {Code: ret, K: best},
	}
}

// bytecode is a program as tc reads it.
func bytecode(p []insn) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", len(p))
	for _, i := range p {
		fmt.Fprintf(&b, ",%d %d %d %d", i.Code, i.JT, i.JF, i.K)
	}
	return b.String()
}

// minor numbers the classes of a shaper below 1:1, from 1:10.
func minor(i int) uint32 { return 0x10 + uint32(i) }

func classID(i int) uint32 { return 1<<16 | minor(i) }
