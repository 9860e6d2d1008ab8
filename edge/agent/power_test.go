package agent

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"

	"github.com/wardnet/wardnet/edge/agent/disk"
)

var errPower = errors.New("power lost")

// power is a file layer that loses power: what was not synced may be gone, and
// directory entries that were not synced survive only up to a random point.
type power struct {
	rng   *rand.Rand
	left  int // operations until the cut; negative: no cut
	names map[string]*inode
	moves []map[string]*inode // directory states since the last SyncDir, oldest first
}

type inode struct {
	data   []byte
	synced int // bytes that are durable
}

func newPower(seed uint64) *power {
	return &power{rng: rand.New(rand.NewPCG(seed, 1)), left: -1, names: map[string]*inode{}}
}

// op spends one operation; the one that finds none left fails, as do all after.
func (p *power) op() error {
	if p.left == 0 {
		return errPower
	}
	if p.left > 0 {
		p.left--
	}
	return nil
}

// restart is the disk as the next boot finds it.
func (p *power) restart() {
	p.left = -1
	if len(p.moves) > 0 {
		p.names = p.moves[p.rng.IntN(len(p.moves)+1)%len(p.moves)]
	}
	p.moves = nil
	for name, n := range p.names {
		if keep := n.synced + p.rng.IntN(len(n.data)-n.synced+1); keep < len(n.data) {
			p.names[name] = &inode{data: n.data[:keep], synced: keep}
		}
	}
	p.names = clone(p.names)
}

func clone(m map[string]*inode) map[string]*inode {
	out := make(map[string]*inode, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// entry changes the directory without making it durable.
func (p *power) entry(change func(map[string]*inode)) {
	if len(p.moves) == 0 {
		p.moves = append(p.moves, clone(p.names))
	}
	change(p.names)
	p.moves = append(p.moves, clone(p.names))
}

func (p *power) Read(name string) ([]byte, error) {
	n, ok := p.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(n.data), nil
}

func (p *power) Create(name string) (disk.File, error) {
	if err := p.op(); err != nil {
		return nil, err
	}
	n := &inode{}
	p.entry(func(m map[string]*inode) { m[name] = n })
	return &powerFile{p, n}, nil
}

func (p *power) Rename(from, to string) error {
	if err := p.op(); err != nil {
		return err
	}
	p.entry(func(m map[string]*inode) {
		m[to] = m[from]
		delete(m, from)
	})
	return nil
}

func (p *power) SyncDir(string) error {
	if err := p.op(); err != nil {
		return err
	}
	p.moves = nil
	return nil
}

func (p *power) MkdirAll(string) error { return nil }

type powerFile struct {
	p *power
	n *inode
}

func (f *powerFile) Write(b []byte) (int, error) {
	if err := f.p.op(); err != nil {
		return 0, err
	}
	f.n.data = append(f.n.data, b...)
	return len(b), nil
}

func (f *powerFile) Sync() error {
	if err := f.p.op(); err != nil {
		return err
	}
	f.n.synced = len(f.n.data)
	return nil
}

func (f *powerFile) Close() error { return nil }
