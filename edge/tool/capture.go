package tool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/inventory"
)

const (
	// startWithin bounds tcpdump's start, and the check of a filter.
	startWithin = 10 * time.Second
	// endWithin is what tcpdump gets to end by itself before it is killed.
	endWithin = 2 * time.Second
	// nobody is the user and group of tcpdump; it keeps CAP_NET_RAW only.
	nobody = 65534
	// maxComplaint bounds what is kept of what tcpdump says.
	maxComplaint = 4000
)

// What ends a capture.
var (
	errSeconds = errors.New("seconds")
	errBytes   = errors.New("bytes")
	errPackets = errors.New("packets")
)

// Capture implements gnoi.ToolsServer.
func (s *Server) Capture(m *gnoi.CaptureRequest, out grpc.ServerStreamingServer[gnoi.CaptureReply]) error {
	spec, err := readCapture(m)
	if err != nil {
		return toStatus(err)
	}
	port, err := s.box.Look(spec.on)
	if err != nil {
		return toStatus(err)
	}
	leave, err := s.begin()
	if err != nil {
		return err
	}
	defer leave()
	ctx := out.Context()
	dump, err := newTcpdump(ctx, port, spec, ownConnection(ctx))
	if err != nil {
		return toStatus(err)
	}
	last, err := dump.run(ctx, func(piece []byte) error {
		for part := range slices.Chunk(piece, maxPiece) {
			if err := out.Send(&gnoi.CaptureReply{Pcap: part}); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case err != nil:
		return toStatus(fmt.Errorf("capture on %s: %w", spec.on, err))
	}
	return out.Send(last)
}

// tcpdump is one run of the program.
type tcpdump struct {
	path, filter string
	port         Port
	spec         captureSpec
}

// newTcpdump finds the program and has it check the filter on the port. Packets
// that the filter without names are left out.
func newTcpdump(ctx context.Context, port Port, spec captureSpec, without string) (*tcpdump, error) {
	path, err := program.Find("tcpdump")
	if err != nil {
		return nil, err
	}
	link, err := net.InterfaceByName(port.Interface)
	if err != nil || link.Flags&net.FlagUp == 0 {
		return nil, fmt.Errorf("%w: %s (%s) is not up; look again when it is", inventory.ErrConflict, spec.on, port.Interface)
	}
	t := &tcpdump{path: path, filter: spec.filter, port: port, spec: spec}
	if err := t.check(ctx); err != nil {
		return nil, err
	}
	t.filter = joined(spec.filter, port.Hosts, without)
	return t, nil
}

// joined is the filter of a run. A filter that is whole by itself stays so in
// brackets.
func joined(asked string, hosts []netip.Prefix, without string) string {
	var nets, parts []string
	for _, h := range hosts {
		nets = append(nets, "net "+h.Masked().String())
	}
	if len(nets) > 0 {
		parts = append(parts, "("+strings.Join(nets, " or ")+")")
	}
	if asked != "" {
		parts = append(parts, "("+asked+")")
	}
	if without != "" {
		parts = append(parts, "not ("+without+")")
	}
	return strings.Join(parts, " and ")
}

// ownConnection is the filter for the connection that the capture itself
// travels on: each packet of it would make another.
func ownConnection(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	far, ok1 := p.Addr.(*net.TCPAddr)
	near, ok2 := p.LocalAddr.(*net.TCPAddr)
	if !ok1 || !ok2 {
		return ""
	}
	return fmt.Sprintf("host %s and tcp port %d and tcp port %d", far.AddrPort().Addr().Unmap().WithZone(""), far.Port, near.Port)
}

// check compiles the filter as it was given.
func (t *tcpdump) check(ctx context.Context) error {
	if t.filter == "" {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("tcpdump took over %s for the filter", startWithin))
	defer cancel()
	cmd, said := t.command(ctx, "-d")
	cmd.Stdout = io.Discard
	defer locked()()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("check filter: %w", context.Cause(ctx))
		}
		return fmt.Errorf("%w: filter: %s; see pcap-filter(7)", inventory.ErrInvalid, said.last())
	}
	return nil
}

// command is tcpdump on the port, as a child without rights of its own: nobody,
// with CAP_NET_RAW, killed when the agent is. After "--" a filter is never an
// option.
func (t *tcpdump) command(ctx context.Context, args ...string) (*exec.Cmd, *complaint) {
	args = append([]string{"-i", t.port.Interface, "-p", "-n", "-s", strconv.Itoa(t.spec.snap)}, args...)
	cmd := exec.CommandContext(ctx, t.path, append(args, "--", t.filter)...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: []uintptr{unix.CAP_NET_RAW}, Pdeathsig: syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // it counts what it dropped, then ends
	cmd.WaitDelay = endWithin
	said := &complaint{}
	cmd.Stderr = said
	return cmd, said
}

// locked keeps the thread that starts a child alive until unlock: when it dies,
// so does the child.
func locked() (unlock func()) {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}

// run captures until the first bound is reached and returns the last message.
// It gives whole records to send; an error of send ends it.
func (t *tcpdump) run(ctx context.Context, send func([]byte) error) (*gnoi.CaptureReply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd, said := t.command(ctx, "-U", "--immediate-mode", "-c", strconv.Itoa(t.spec.packets), "-w", "-")
	defer locked()()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start tcpdump: %w", err)
	}
	limit := time.AfterFunc(startWithin, func() { cancel(fmt.Errorf("tcpdump did not start within %s", startWithin)) })
	defer func() { limit.Stop() }()
	file := &records{limit: t.spec.bytes}
	var kept []byte // to send; not packet by packet, for they would be seen too
	buf := make([]byte, maxPiece)
	for started := false; ; {
		n, err := stdout.Read(buf)
		whole, bad := file.add(buf[:n])
		kept = append(kept, whole...)
		begins := !started && file.order != nil
		if begins { // it listens
			started = true
			limit.Stop()
			limit = time.AfterFunc(t.spec.time, func() { cancel(errSeconds) })
		}
		if bad == nil && len(kept) > 0 && (begins || err != nil || len(kept) >= maxPiece) {
			bad, kept = send(kept), nil
		}
		switch {
		case bad != nil:
			cancel(bad)
		case file.full:
			cancel(errBytes)
		}
		if err != nil { // it ended, or was killed
			break
		}
	}
	failed, cause := cmd.Wait(), context.Cause(ctx)
	switch {
	case cause == nil && failed == nil && file.packets >= t.spec.packets:
		cause = errPackets
	case cause == nil:
		return nil, fmt.Errorf("tcpdump ended early (%v): %s", failed, said.last())
	case cause != errSeconds && cause != errBytes:
		return nil, cause
	}
	return &gnoi.CaptureReply{Done: true, Packets: uint32(file.packets), Dropped: said.dropped(), Ended: cause.Error()}, nil
}

// complaint keeps the beginning of what tcpdump says.
type complaint struct{ text bytes.Buffer }

func (c *complaint) Write(b []byte) (int, error) {
	c.text.Write(b[:min(len(b), max(maxComplaint-c.text.Len(), 0))])
	return len(b), nil
}

// last is the last line, which is the one that matters.
func (c *complaint) last() string {
	lines := strings.Split(strings.TrimSpace(c.text.String()), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "tcpdump: ")
}

var droppedLine = regexp.MustCompile(`(?m)^(\d+) packets? dropped by kernel`)

// dropped is how many packets the kernel had no room for, by tcpdump's count.
func (c *complaint) dropped() uint32 {
	m := droppedLine.FindStringSubmatch(c.text.String())
	if m == nil {
		return 0
	}
	n, err := strconv.ParseUint(m[1], 10, 32)
	if err != nil {
		return ^uint32(0) // more than fit
	}
	return uint32(n)
}
