package store

import (
	"fmt"
	"iter"
	"maps"
	"slices"
)

// platter models what a power cut may leave of a recorded run. A file's bytes
// are sure once the file was synced after them, a name once its directory was;
// anything later may be there or not, in any combination.
type platter struct {
	sure    map[string]*inode // names after the last directory sync
	now     map[string]*inode // names as the running system sees them
	acked   int               // Writes acknowledged
	inodes  []*inode          // in order of creation
	pending int               // unsynced operations of all files
}

type inode struct {
	sure    []byte   // content after the last sync
	pending []diskOp // writes and truncations since
	first   int      // number of the first pending operation among all files
}

func newPlatter() *platter { return &platter{sure: map[string]*inode{}, now: map[string]*inode{}} }

func replay(ops []diskOp) *platter {
	p := newPlatter()
	for _, o := range ops {
		p.apply(o)
	}
	return p
}

func (p *platter) apply(o diskOp) {
	f := p.now[o.name]
	switch o.kind {
	case opCreate:
		f = &inode{}
		p.now[o.name] = f
		p.inodes = append(p.inodes, f)
	case opDelete:
		delete(p.now, o.name)
	case opDirSync:
		p.sure = maps.Clone(p.now)
	case opWrite, opTruncate:
		f.pending = append(f.pending, o)
	case opSync:
		f.sure, f.pending = f.content(keepAll), nil
	case opAck:
		p.acked++
	}
	p.pending = 0
	for _, f := range p.inodes {
		f.first = p.pending
		p.pending += len(f.pending)
	}
}

// keep says how much of unsynced operation i of n bytes reached the disk: the
// bytes from one index to another; from > to means nothing.
type keep func(i, n int) (from, to int)

func keepAll(_, n int) (int, int)  { return 0, n }
func keepNone(_, _ int) (int, int) { return 1, 0 }

func keepOnly(k int, how keep) keep {
	return func(i, n int) (int, int) {
		if i == k {
			return how(i, n)
		}
		return keepNone(i, n)
	}
}

func keepBut(k int, how keep) keep {
	return func(i, n int) (int, int) {
		if i == k {
			return how(i, n)
		}
		return keepAll(i, n)
	}
}

func firstHalf(_, n int) (int, int)  { return 0, n / 2 }
func secondHalf(_, n int) (int, int) { return n / 2, n }

func (f *inode) content(k keep) []byte {
	out := slices.Clone(f.sure)
	if last := len(f.pending) - 1; last >= 0 {
		out = slices.Grow(out, int(f.pending[last].off)+len(f.pending[last].data))
	}
	for i, o := range f.pending {
		from, to := k(f.first+i, len(o.data))
		if from > to {
			continue
		}
		size := int(o.off)
		if o.kind == opWrite {
			size = max(len(out), int(o.off)+to)
		}
		if size < len(out) {
			out = out[:size]
		} else {
			out = append(out, make([]byte, size-len(out))...)
		}
		if o.kind == opWrite {
			copy(out[int(o.off)+from:], o.data[from:to])
		}
	}
	return out
}

// image gives the files after a cut that kept k of the unsynced operations and,
// or else not, the unsynced names.
func (p *platter) image(k keep, names bool) map[string][]byte {
	dir := p.sure
	if names {
		dir = p.now
	}
	out := map[string][]byte{}
	for name, f := range dir {
		out[name] = f.content(k)
	}
	return out
}

// images gives every image a cut at this point may leave, of those we try:
// nothing unsynced kept, all kept, each operation alone kept (whole, its first
// and its second half), and each one lost or torn while all others were kept;
// all of that with the unsynced names and without.
func (p *platter) images() iter.Seq2[string, map[string][]byte] {
	type choice struct {
		what string
		keep keep
	}
	choices := []choice{{"nothing unsynced kept", keepNone}, {"everything kept", keepAll}}
	for i := range p.pending {
		choices = append(choices,
			choice{fmt.Sprintf("only unsynced operation %d kept", i), keepOnly(i, keepAll)},
			choice{fmt.Sprintf("only the first half of operation %d kept", i), keepOnly(i, firstHalf)},
			choice{fmt.Sprintf("only the second half of operation %d kept", i), keepOnly(i, secondHalf)},
			choice{fmt.Sprintf("all but operation %d kept", i), keepBut(i, keepNone)},
			choice{fmt.Sprintf("all and the first half of operation %d kept", i), keepBut(i, firstHalf)})
	}
	return func(yield func(string, map[string][]byte) bool) {
		for _, c := range choices {
			if !yield(c.what+", new names too", p.image(c.keep, true)) {
				return
			}
			if !maps.Equal(p.sure, p.now) && !yield(c.what+", new names not", p.image(c.keep, false)) {
				return
			}
		}
	}
}
