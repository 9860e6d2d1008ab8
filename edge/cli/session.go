package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/scrapli/scrapligo/driver/network"
	"github.com/scrapli/scrapligo/driver/options"
	definition "github.com/scrapli/scrapligo/platform"
	"github.com/scrapli/scrapligo/util"
	"gopkg.in/yaml.v3"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/edge/sshwire"
)

const (
	// pollEvery is how often scrapligo looks for what came: its own 250 µs cost
	// more than all the rest.
	pollEvery = 2 * time.Millisecond
	// termWidth is wider than any line: a terminal's wrapping breaks the echo.
	termWidth = 512
	// idleMost is how long a session is trusted unasked.
	idleMost = 5 * time.Second
	// probeLimit bounds the question whether it still lives.
	probeLimit = 3 * time.Second

	configuration = "configuration" // scrapligo's name of the level
)

// session is one login, kept and used again.
type session struct {
	p     *platform
	wire  *sshwire.Wire
	drv   *network.Driver
	heard *tail
	used  time.Time
	open  bool
}

// open logs in and sees that it is the device that is meant.
func (b *Box) open(ctx context.Context) (*session, error) {
	wire, err := sshwire.New(ctx, b.cfg.SSH)
	if err != nil {
		return nil, err
	}
	def, err := yaml.Marshal(&b.p.Session)
	if err != nil {
		return nil, err
	}
	s := &session{p: b.p, wire: wire, heard: &tail{}, used: time.Now()}
	pl, err := definition.NewPlatform(def, b.cfg.SSH.Addr,
		options.WithCustomTransport(wire), options.WithAuthBypass(), options.WithTermWidth(termWidth),
		options.WithTimeoutOps(b.cfg.Timeout), options.WithReadDelay(pollEvery), options.WithChannelLog(s.heard))
	if err != nil {
		return nil, fmt.Errorf("platform %s: %w", b.p.Name, err)
	}
	if s.drv, err = pl.GetNetworkDriver(); err != nil {
		return nil, fmt.Errorf("platform %s: %w", b.p.Name, err)
	}
	// Where its own preparation fails, scrapligo waits for its reader.
	prepare := s.drv.OnOpen
	s.drv.OnOpen = nil
	if err := s.do(ctx, "log in", s.drv.Open); err != nil {
		return nil, err
	}
	s.open = true
	if err := s.do(ctx, "log in", func() error { return prepare(s.drv) }); err != nil {
		return nil, err
	}
	if err := b.identify(ctx, s); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// identify compares the serial number, where one is expected.
func (b *Box) identify(ctx context.Context, s *session) error {
	id := b.p.Identity
	if b.cfg.Serial == "" || id.Command == "" {
		return nil
	}
	text, err := s.ask(ctx, id.Command)
	if err != nil {
		return err
	}
	for _, line := range strings.Split(text, "\n") {
		if g := id.Match.groups(strings.TrimSpace(line)); g != nil {
			if g["serial"] == b.cfg.Serial {
				return nil
			}
			return fmt.Errorf("%w: serial number %q answers at %s, %q is expected; nothing was changed", foreign.ErrOtherDevice, clip(g["serial"]), b.cfg.SSH.Addr, b.cfg.Serial)
		}
	}
	return fmt.Errorf("%w: the answer of %s to %q has no serial number", ErrGarbage, b.cfg.Device, id.Command)
}

// alive asks a session that was idle for its prompt.
func (s *session) alive(ctx context.Context) bool {
	if !s.wire.IsAlive() {
		return false
	}
	if time.Since(s.used) < idleMost {
		return true
	}
	limit := s.drv.Channel.TimeoutOps
	s.drv.Channel.TimeoutOps = min(limit, probeLimit)
	err := s.do(ctx, "ask for the prompt", func() error { _, err := s.drv.GetPrompt(); return err })
	s.drv.Channel.TimeoutOps = limit
	return err == nil
}

func (s *session) close() {
	_ = s.wire.Close() // first, or scrapligo waits for its reader
	if s.open {
		_ = s.drv.Channel.Close()
	}
}

// ask sends one command and gives its answer.
func (s *session) ask(ctx context.Context, command string) (string, error) {
	var text string
	err := s.do(ctx, fmt.Sprintf("ask %q", command), func() error {
		r, err := s.drv.SendCommand(command)
		if err == nil {
			text = r.Result
		}
		return err
	})
	return text, err
}

// refusal is a line that the device did not take.
type refusal struct{ line, answer string }

func (r *refusal) Error() string {
	return fmt.Sprintf("line %q is answered with %q", clip(r.line), clip(r.answer))
}

// configure sends lines of configuration and stops at the first that is not
// taken, with a [*refusal]; then the session is of no more use. Enter is what
// enters the mode, "" for the platform's.
func (s *session) configure(ctx context.Context, lines []string, enter string) error {
	level := s.drv.PrivilegeLevels[configuration]
	if enter != "" {
		was := level.Escalate
		level.Escalate = enter
		defer func() { level.Escalate = was }()
	}
	return s.do(ctx, fmt.Sprintf("send %d lines of configuration", len(lines)), func() error {
		if err := s.drv.AcquirePriv(configuration); err != nil {
			return err
		}
		for _, line := range lines {
			r, err := s.drv.Driver.SendCommand(line)
			if err != nil {
				return fmt.Errorf("at line %q: %w", clip(line), err)
			}
			if answer := strings.TrimSpace(r.Result); s.p.refuses(answer) {
				return &refusal{line, answer}
			}
		}
		return s.drv.AcquirePriv(s.drv.DefaultDesiredPriv)
	})
}

// refuses says whether an answer to a line of configuration is a refusal.
func (p *platform) refuses(answer string) bool {
	for l := range strings.SplitSeq(answer, "\n") {
		l = strings.TrimSpace(l)
		if l != "" && !anyIs(p.Notes, l) && (p.Quiet || anyIs(p.Errors, l)) {
			return true
		}
	}
	return false
}

// do runs f, which knows no context: its end ends the session.
func (s *session) do(ctx context.Context, what string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	stop := context.AfterFunc(ctx, func() { _ = s.wire.Close() })
	err := f()
	ended := !stop()
	s.used = time.Now()
	if err == nil && !ended {
		return nil
	}
	s.close()
	var refused *refusal
	switch {
	case ended:
		return fmt.Errorf("%w: %s: %w", edge.ErrUnreachable, what, context.Cause(ctx))
	case errors.As(err, &refused), errors.Is(err, edge.ErrUnreachable):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, util.ErrTimeoutError), errors.Is(err, util.ErrPrivilegeError):
		return fmt.Errorf("%w: %s: %w of platform %s came, but %q: %w; see whether the device's prompt or platform was changed", edge.ErrUnreachable, what, ErrPrompt, s.p.Name, s.heard.last(), err)
	}
	return fmt.Errorf("%w: %s: the session ended: %w", edge.ErrUnreachable, what, err)
}

// tail keeps the end of what was heard, for errors.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 256
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if n := len(t.b); n > most {
		t.b = append(t.b[:0], t.b[n-most:]...)
	}
	return len(b), nil
}

// last is the last line heard.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return clip(lines[len(lines)-1])
}

// clip makes what a device said fit for an error: one short line without
// secrets.
func clip(s string) string {
	const most = 120
	s = throwaway().Text(s)
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
