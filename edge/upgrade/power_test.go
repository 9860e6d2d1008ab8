package upgrade

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"syscall"

	"github.com/wardnet/wardnet/edge/agent/disk"
)

var errPower = errors.New("power lost")

// power is a file layer that loses power: what was not synced may be gone, and
// directory entries that were not synced survive only up to a random point. It
// may also be full.
type power struct {
	rng   *rand.Rand
	left  int // operations until the cut; negative: no cut
	names map[string]*inode
	moves map[string][]map[string]*inode // by directory: its states since the last SyncDir, oldest first
	room  Room
	full  int // bytes that can still be written; negative: any number
}

type inode struct {
	data   []byte
	synced []byte
}

func newPower(seed uint64) *power {
	return &power{
		rng: rand.New(rand.NewPCG(seed, 1)), left: -1, full: -1, names: map[string]*inode{},
		moves: map[string][]map[string]*inode{}, room: Room{Free: 1 << 30},
	}
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
	for dir, states := range p.moves {
		if len(states) == 0 {
			continue
		}
		keep := states[p.rng.IntN(len(states))]
		maps.DeleteFunc(p.names, func(name string, _ *inode) bool { return filepath.Dir(name) == dir })
		maps.Copy(p.names, keep)
	}
	p.moves = map[string][]map[string]*inode{}
	for name, n := range p.names {
		data := n.synced
		if len(n.data) > len(data) && bytes.HasPrefix(n.data, data) {
			data = n.data[:len(data)+p.rng.IntN(len(n.data)-len(data)+1)]
		}
		p.names[name] = &inode{data: bytes.Clone(data), synced: bytes.Clone(data)}
	}
}

// entry changes a directory without making it durable.
func (p *power) entry(name string, change func()) {
	dir := filepath.Dir(name)
	state := func() map[string]*inode {
		m := map[string]*inode{}
		for k, v := range p.names {
			if filepath.Dir(k) == dir {
				m[k] = v
			}
		}
		return m
	}
	if len(p.moves[dir]) == 0 {
		p.moves[dir] = append(p.moves[dir], state())
	}
	change()
	p.moves[dir] = append(p.moves[dir], state())
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
	p.entry(name, func() { p.names[name] = n })
	return &powerFile{p, n}, nil
}

func (p *power) Rename(from, to string) error {
	if err := p.op(); err != nil {
		return err
	}
	p.entry(to, func() {
		p.names[to] = p.names[from]
		delete(p.names, from)
	})
	return nil
}

func (p *power) SyncDir(dir string) error {
	if err := p.op(); err != nil {
		return err
	}
	delete(p.moves, dir)
	return nil
}

func (p *power) MkdirAll(string) error { return nil }

func (p *power) Append(name string, at int64) (disk.File, error) {
	if err := p.op(); err != nil {
		return nil, err
	}
	n := p.names[name]
	if n == nil {
		n = &inode{}
		p.entry(name, func() { p.names[name] = n })
	}
	n.data = n.data[:at]
	return &powerFile{p, n}, nil
}

func (p *power) Open(name string) (io.ReadCloser, error) {
	b, err := p.Read(name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (p *power) Size(name string) (int64, error) {
	if n := p.names[name]; n != nil {
		return int64(len(n.data)), nil
	}
	return 0, nil
}

func (p *power) Remove(name string) error {
	if err := p.op(); err != nil {
		return err
	}
	p.entry(name, func() { delete(p.names, name) })
	return nil
}

func (p *power) Room(string) (Room, error) { return p.room, nil }

type powerFile struct {
	p *power
	n *inode
}

func (f *powerFile) Write(b []byte) (int, error) {
	if err := f.p.op(); err != nil {
		return 0, err
	}
	if f.p.full >= 0 && len(b) > f.p.full {
		return 0, &fs.PathError{Op: "write", Path: "slot", Err: syscall.ENOSPC}
	}
	if f.p.full >= 0 {
		f.p.full -= len(b)
	}
	f.n.data = append(f.n.data, b...)
	return len(b), nil
}

func (f *powerFile) Sync() error {
	if err := f.p.op(); err != nil {
		return err
	}
	f.n.synced = bytes.Clone(f.n.data)
	return nil
}

func (f *powerFile) Close() error { return nil }
