package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/inventory"
)

const (
	// toolsAtOnce bounds the tools of all devices together, and so the captures
	// that are held in memory.
	toolsAtOnce = 16
	// maxCapture bounds what is taken of a device's file, in bytes; the device
	// has the same bound.
	maxCapture = 9 << 20
)

// ToolSources are what tools are run with; all are required but Reg.
type ToolSources struct {
	// Conn is the management channel of a device that is connected; else the
	// error wraps [edge.ErrUnreachable].
	Conn func(inventory.DeviceID) (grpc.ClientConnInterface, error)
	Reg  prometheus.Registerer
}

// EdgeTools is [Tools].
type EdgeTools struct {
	src   ToolSources
	slots chan struct{}
	runs  *prometheus.CounterVec
}

// AdaptTools runs tools on edges, over their management channels.
func AdaptTools(src ToolSources) *EdgeTools {
	t := &EdgeTools{src: src, slots: make(chan struct{}, toolsAtOnce), runs: promauto.With(src.Reg).NewCounterVec(prometheus.CounterOpts{
		Name: "console_device_tools_total", Help: "Tools run on devices, by tool and outcome.",
	}, []string{"tool", "outcome"})}
	for _, tool := range []string{"ping", "traceroute", "capture"} {
		for _, outcome := range []string{"done", "refused", "unreachable", "failed"} {
			t.runs.WithLabelValues(tool, outcome)
		}
	}
	return t
}

// run asks one device, with everything around it that the tools share.
func (t *EdgeTools) run(ctx context.Context, id inventory.DeviceID, tool string, ask func(context.Context, gnoi.ToolsClient) error) (err error) {
	defer func() { t.runs.WithLabelValues(tool, toolOutcome(err)).Inc() }()
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	default:
		return refusal(http.StatusTooManyRequests, fmt.Sprintf("%d tools run on devices already", toolsAtOnce), "wait until one ends")
	}
	conn, err := t.src.Conn(id)
	if err != nil {
		return offline{err}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, toolTime, fmt.Errorf("%s took over %s", tool, toolTime))
	defer cancel()
	return told(id, ask(ctx, gnoi.NewToolsClient(conn)))
}

// Ping implements [Tools].
func (t *EdgeTools) Ping(ctx context.Context, id inventory.DeviceID, want client.NewPing) (client.PingResult, error) {
	out := client.PingResult{Device: id, Destination: want.Destination, Replies: []client.PingReply{}}
	err := t.run(ctx, id, "ping", func(ctx context.Context, c gnoi.ToolsClient) error {
		stream, err := c.Ping(ctx, &gnoi.PingRequest{
			Destination: want.Destination, From: fromOfTool(want.From), Count: want.Count, IntervalMs: want.IntervalMS,
			SizeBytes: want.SizeBytes, DontFragment: want.DontFragment, WaitMs: want.WaitMS,
		})
		return each(stream, err, func(r *gnoi.PingReply) error {
			if s := r.GetSummary(); s != nil {
				out.Summary = client.PingSummary{
					Sent: s.GetSent(), Received: s.GetReceived(), MinTimeNS: s.GetMinTimeNs(), AvgTimeNS: s.GetAvgTimeNs(), MaxTimeNS: s.GetMaxTimeNs(), StdDevNS: s.GetStdDevNs(),
				}
				return nil
			}
			out.Replies = append(out.Replies, client.PingReply{
				Sequence: r.GetSequence(), Source: r.GetSource(), Bytes: r.GetBytes(), HopLimit: r.GetHopLimit(), TimeNS: r.GetTimeNs(), Error: r.GetError(),
			})
			return bounded(len(out.Replies), 100)
		})
	})
	return out, err
}

// Trace implements [Tools].
func (t *EdgeTools) Trace(ctx context.Context, id inventory.DeviceID, want client.NewTrace) (client.TraceResult, error) {
	out := client.TraceResult{Device: id, Destination: want.Destination, Probes: []client.TraceProbe{}}
	err := t.run(ctx, id, "traceroute", func(ctx context.Context, c gnoi.ToolsClient) error {
		stream, err := c.Traceroute(ctx, &gnoi.TracerouteRequest{
			Destination: want.Destination, From: fromOfTool(want.From), MaxHops: want.MaxHops, Probes: want.Probes, WaitMs: want.WaitMS,
		})
		return each(stream, err, func(r *gnoi.TracerouteReply) error {
			out.Reached = out.Reached || r.GetState() == "reached"
			out.Probes = append(out.Probes, client.TraceProbe{Hop: r.GetHop(), Probe: r.GetProbe(), Address: r.GetAddress(), TimeNS: r.GetTimeNs(), State: r.GetState()})
			return bounded(len(out.Probes), 64*5)
		})
	})
	return out, err
}

// Capture implements [Tools].
func (t *EdgeTools) Capture(ctx context.Context, id inventory.DeviceID, want client.NewCapture) (client.CaptureResult, error) {
	var out client.CaptureResult
	var file bytes.Buffer
	err := t.run(ctx, id, "capture", func(ctx context.Context, c gnoi.ToolsClient) error {
		stream, err := c.Capture(ctx, &gnoi.CaptureRequest{
			Circuit: want.Circuit, Tunnel: want.Tunnel, Segment: want.Segment, Filter: want.Filter,
			MaxPackets: want.MaxPackets, MaxSeconds: want.MaxSeconds, SnapBytes: want.SnapBytes, MaxBytes: want.MaxBytes,
		})
		return each(stream, err, func(r *gnoi.CaptureReply) error {
			if r.GetDone() {
				out.Packets, out.Dropped, out.Ended = r.GetPackets(), r.GetDropped(), r.GetEnded()
			}
			file.Write(r.GetPcap())
			return bounded(file.Len(), maxCapture)
		})
	})
	out.Pcap = file.Bytes()
	return out, err
}

func fromOfTool(f client.ToolFrom) *gnoi.From {
	return &gnoi.From{Circuit: f.Circuit, Tunnel: f.Tunnel, Segment: f.Segment}
}

// each takes the messages of a stream to its end.
func each[T any](stream grpc.ServerStreamingClient[T], err error, take func(*T) error) error {
	for err == nil {
		var m *T
		if m, err = stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = take(m)
		}
	}
	return err
}

// bounded stops a device that says more than it may; the stream ends with the
// context of run.
func bounded(n, most int) error {
	if n > most {
		return status.Errorf(codes.Internal, "the device sends more than it may, %d", most)
	}
	return nil
}

// offline is the error of a device without a session.
type offline struct{ error }

func (o offline) Unwrap() error { return o.error }

// Hint says what to do next.
func (offline) Hint() string {
	return "look at its state and circuits with 'wardnet device show'; it dials by itself as soon as it can"
}

func refusal(code int, detail, hint string) *client.Problem {
	return &client.Problem{Status: code, Title: http.StatusText(code), Detail: detail, Hint: hint}
}

// told turns what a device answered into our errors.
func told(id inventory.DeviceID, err error) error {
	if err == nil {
		return nil
	}
	text := status.Convert(err).Message()
	switch status.Code(err) {
	case codes.InvalidArgument:
		p := refusal(http.StatusUnprocessableEntity, string(id)+" refuses the request", hints[http.StatusUnprocessableEntity])
		for fault := range strings.SplitSeq(text, "\n") {
			p.Faults = append(p.Faults, plain(fault))
		}
		return p
	case codes.ResourceExhausted:
		return refusal(http.StatusTooManyRequests, fmt.Sprintf("%s: %s", id, text), "wait until one ends")
	case codes.FailedPrecondition:
		return refusal(http.StatusConflict, fmt.Sprintf("%s cannot do it now: %s", id, plain(text)), "put right what is named on the device, then try again")
	case codes.Unimplemented:
		return refusal(http.StatusNotImplemented, fmt.Sprintf("%s has no such tool: %s", id, text), "a real edge has it, from this version of the agent on")
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return offline{fmt.Errorf("%w: %s: %s", edge.ErrUnreachable, id, text)}
	}
	return refusal(http.StatusBadGateway, fmt.Sprintf("%s: %s", id, text), "the device's own log may say more")
}

// plain is a device's error without the sentinel it begins with.
func plain(text string) string {
	for _, sentinel := range []error{inventory.ErrInvalid, inventory.ErrConflict, inventory.ErrNotFound} {
		text = strings.TrimPrefix(text, sentinel.Error()+": ")
	}
	return text
}

// toolOutcome is the label of an error.
func toolOutcome(err error) string {
	p, answered := errors.AsType[*client.Problem](err)
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, edge.ErrUnreachable):
		return "unreachable"
	case answered && p.Status != http.StatusBadGateway:
		return "refused"
	}
	return "failed"
}
