// Package cli drives devices by their command line, over SSH with short-lived
// certificates, on scrapligo. What differs between platforms is data: see the
// folder platforms. The renderings of platforms whose status is "not run" were
// never sent to a device.
//
// A device holds some parts of a Config; their lines are known by names that
// begin with "wardnet", and nothing else is touched. A Read compares every line
// of ours, so that an edit by hand shows, even one that no field of a Config
// can say.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/redact"
	"github.com/wardnet/wardnet/edge/sshwire"
	"github.com/wardnet/wardnet/inventory"
)

// Outcomes of a device that does not behave, beside [edge.ErrUnreachable] and
// [edge.ErrRejected]. Nothing is lost: the device is as it was, or is read and
// written again.
var (
	ErrPrompt     = errors.New("no prompt")                // what came is none that the platform knows
	ErrTruncated  = errors.New("configuration cut short")  // nothing was taken from it
	ErrGarbage    = errors.New("answer not understood")    // nothing was taken from it
	ErrForeign    = errors.New("somebody else's lines")    // stand where ours have to go
	errAnswer     = errors.New("device refuses to tell")   // reading is not allowed
	errPutBack    = errors.New("not put back as it was")   // and what it holds is open
	errReadsOther = errors.New("device shows other lines") // than it took
	errNoSave     = errors.New("configuration not stored") // the device may forget it
)

// Config says which device and how. Platform, Device and SSH are required.
type Config struct {
	Platform string // name of a definition, see [Platforms]
	Device   inventory.DeviceID
	// Serial is compared with what the device says at each login, where the
	// platform can tell; empty: not asked. FRR tells its host's name instead.
	Serial string
	SSH    sshwire.Config
	// Timeout bounds one command; default 10 s.
	Timeout time.Duration
	// Redact takes the secrets out of lines that somebody wrote beside ours,
	// before Read tells them; nil: with a key that dies with the process.
	Redact *redact.Redactor
}

// Box is one device. Its methods may be called at the same time: one runs after
// the other. It satisfies foreign.Box; one made by [New] for a platform that
// returns by itself also satisfies foreign.Confirmer.
type Box struct {
	cfg Config
	p   *platform
	v   *vault

	mu sync.Mutex
	s  *session // nil: none open
}

// Device is what [New] makes: a [*Box], or more for platforms that can more.
type Device interface {
	Holds() []edge.Kind
	Read(ctx context.Context, c edge.Config) (edge.Config, error)
	Write(ctx context.Context, have, want edge.Config) error
	Tunnels(ctx context.Context, c edge.Config) ([]edge.TunnelState, error)
	Close() error
}

// New prepares a device; the first call that needs it logs in.
func New(cfg Config) (Device, error) {
	p, err := platformNamed(cfg.Platform)
	if err != nil {
		return nil, err
	}
	if cfg.Device == "" {
		return nil, fmt.Errorf("%w: a CLI device needs its id", inventory.ErrInvalid)
	}
	if _, err := sshwire.New(context.Background(), cfg.SSH); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", inventory.ErrInvalid, cfg.Device, err)
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	b := &Box{cfg: cfg, p: p, v: newVault(cfg.Redact)}
	if p.Timer != nil {
		return &timedBox{b}, nil
	}
	return b, nil
}

// Commands lists the lines that turn have into want on a platform, as Write
// would send them. Errors as those of Write.
func Commands(platform string, have, want edge.Config) ([]string, error) {
	p, err := platformNamed(platform)
	if err != nil {
		return nil, err
	}
	v := newVault(nil)
	h, err1 := p.wanted(have, v)
	w, err2 := p.wanted(want, v)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return p.delta(h, w), nil
}

// Holds lists what the platform holds.
func (b *Box) Holds() []edge.Kind { return slices.Clone(b.p.Holds) }

// Close ends the session.
func (b *Box) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop()
	return nil
}

func (b *Box) drop() {
	if b.s != nil {
		b.s.close()
		b.s = nil
	}
}

// with gives f the session. A session that was found dead is opened anew once,
// if f only reads.
func (b *Box) with(ctx context.Context, reads bool, f func(*session) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", b.cfg.Device, context.Cause(ctx))
	}
	old := b.s != nil
	if old && !b.s.alive(ctx) {
		b.drop()
		old = false
	}
	if b.s == nil {
		s, err := b.open(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", b.cfg.Device, err)
		}
		b.s = s
	}
	err := f(b.s)
	if err != nil && !b.s.wire.IsAlive() {
		b.drop()
		if old && reads && ctx.Err() == nil && errors.Is(err, edge.ErrUnreachable) {
			return b.with(ctx, false, f)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", b.cfg.Device, err)
	}
	return nil
}

// running reads what the device runs.
func (b *Box) running(ctx context.Context) (*block, error) {
	root := &block{}
	err := b.with(ctx, true, func(s *session) error {
		for _, command := range b.p.Running.Commands {
			text, err := s.ask(ctx, command)
			if err != nil {
				return err
			}
			if err := b.p.whole(command, text); err != nil {
				return err
			}
			root.merge(b.p.parseBlocks(text))
		}
		return nil
	})
	return root, err
}

// Text reads all that the device runs, ours and what is not, as it writes it
// itself; complete says that the answer had its end. It may hold secrets.
func (b *Box) Text(ctx context.Context) (text string, complete bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	complete = true
	err = b.with(ctx, true, func(s *session) error {
		text = ""
		for _, command := range b.p.Running.Commands {
			said, err := s.ask(ctx, command)
			if err != nil {
				return err
			}
			complete = complete && b.p.whole(command, said) == nil
			text += strings.TrimRight(said, "\n") + "\n"
		}
		return nil
	})
	return text, complete, err
}

// Read returns c with the parts that are held as the device has them.
// [ErrTruncated] and [ErrGarbage] are answers from which nothing is taken.
func (b *Box) Read(ctx context.Context, c edge.Config) (edge.Config, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	have, err := b.running(ctx)
	if err != nil {
		return edge.Config{}, err
	}
	return b.p.read(b.p.ours(have), c, b.v), nil
}

// Write makes the device hold want. The lines are worked out from what it runs
// now; have is what Read gave and is not needed for it. A line that is refused
// is undone with those before it: see foreign.Box.
func (b *Box) Write(ctx context.Context, _, want edge.Config) error {
	return b.write(ctx, want, "")
}

func (b *Box) write(ctx context.Context, want edge.Config, enter string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines, err := b.p.wanted(want, b.v)
	if err != nil {
		return fmt.Errorf("%s: %w", b.cfg.Device, err)
	}
	all, err := b.running(ctx)
	if err != nil {
		return err
	}
	if path, marker := b.p.foreign(all, lines); path != "" {
		return fmt.Errorf("%w: %s: %w: %q is there without Wardnet's mark %q; remove it, or add the mark if Wardnet may have it", edge.ErrRejected, b.cfg.Device, ErrForeign, path, marker)
	}
	have := b.p.ours(all)
	commands := b.p.delta(have, lines)
	if more, less := differences(have, lines); len(more)+len(less) == 0 {
		return nil
	} else if len(commands) == 0 {
		return fmt.Errorf("%w: %s: no command of platform %s takes away %q or makes %q; do it by hand", edge.ErrRejected, b.cfg.Device, b.p.Name, few(more), few(less))
	}
	err = b.with(ctx, false, func(s *session) error { return s.configure(ctx, commands, enter) })
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		return b.putBack(ctx, have, refused, enter != "")
	case err != nil:
		return err
	}
	now, err := b.running(ctx)
	if err != nil {
		return err
	}
	more, less := differences(b.p.ours(now), lines)
	if len(more)+len(less) > 0 {
		return b.putBack(ctx, have, fmt.Errorf("%w than it took: more %q, less %q", errReadsOther, few(more), few(less)), enter != "")
	}
	return nil
}

// putBack undoes what was taken of a change before cause, and gives the
// rejection; where that fails, what the device holds is open. A change under the
// device's own timer is cancelled first.
func (b *Box) putBack(ctx context.Context, was *block, cause error, timed bool) error {
	b.drop()   // whatever mode it is in
	if timed { // refused where nothing is on trial
		_ = b.with(ctx, false, func(s *session) error { _, err := s.ask(ctx, b.p.Timer.Cancel); return err })
	}
	now, err := b.running(ctx)
	if err == nil {
		if commands := b.p.delta(b.p.ours(now), was); len(commands) > 0 {
			err = b.with(ctx, false, func(s *session) error { return s.configure(ctx, commands, "") })
		}
	}
	if err == nil {
		now, err = b.running(ctx)
	}
	if err == nil {
		if more, less := differences(b.p.ours(now), was); len(more)+len(less) > 0 {
			err = fmt.Errorf("more %q, less %q", few(more), few(less))
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w after %w: %w; it is read and written again", b.cfg.Device, errPutBack, cause, err)
	}
	return fmt.Errorf("%w: %s: %w; the device is as it was", edge.ErrRejected, b.cfg.Device, cause)
}

// few bounds how many paths an error names.
func few(paths [][]string) []string {
	var out []string
	for _, path := range paths[:min(len(paths), 5)] {
		out = append(out, clip(strings.Join(path, strayUnder)))
	}
	return out
}

// Save stores what runs as what the device starts with: for configurations that
// are confirmed. Platforms that store every change do nothing.
func (b *Box) Save(ctx context.Context) error {
	if b.p.Save.Command == "" {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.with(ctx, true, func(s *session) error {
		text, err := s.ask(ctx, b.p.Save.Command)
		if err != nil {
			return err
		}
		for _, l := range strings.Split(text, "\n") {
			if anyIs(b.p.Errors, l) {
				return fmt.Errorf("%w: %q is answered with %q; see whether the device's file system is full or read-only", errNoSave, b.p.Save.Command, clip(l))
			}
		}
		if !slices.ContainsFunc(strings.Split(text, "\n"), b.p.Save.Done.is) {
			return fmt.Errorf("%w: %q is answered with %q", errNoSave, b.p.Save.Command, clip(text))
		}
		return nil
	})
}

// Tunnels tells the BGP and BFD sessions of c's neighbours; one is up when
// either is. On a platform without a command for it they are not known.
func (b *Box) Tunnels(ctx context.Context, c edge.Config) ([]edge.TunnelState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bgp, bfd := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	err := b.with(ctx, true, func(s *session) error {
		for _, o := range b.p.Observe {
			text, err := s.ask(ctx, o.Command)
			if err != nil {
				return err
			}
			for _, l := range strings.Split(text, "\n") {
				if a, err := netip.ParseAddr(o.BGP.groups(l)["peer"]); err == nil {
					bgp[a] = true
				}
				if a, err := netip.ParseAddr(o.BFD.groups(l)["peer"]); err == nil {
					bfd[a] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	mute := !slices.ContainsFunc(b.p.Observe, func(o observe) bool { return o.BGP.Regexp != nil })
	out := make([]edge.TunnelState, 0, len(c.BGP.Neighbours))
	for _, n := range c.BGP.Neighbours {
		out = append(out, edge.TunnelState{Name: n.Tunnel, Up: bgp[n.Addr] || bfd[n.Addr], BFD: bfd[n.Addr], BGP: bgp[n.Addr], Unknown: mute})
	}
	return out, nil
}
