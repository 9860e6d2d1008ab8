package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// toolFrom adds the flags that say where a tool's packets leave.
func toolFrom(cmd *cobra.Command, f *client.ToolFrom) {
	cmd.Flags().StringVar(&f.Circuit, "circuit", "", "leave by this circuit, over the carrier")
	cmd.Flags().StringVar(&f.Tunnel, "tunnel", "", "leave into this tunnel")
	cmd.Flags().StringVar(&f.Segment, "from-segment", "", "leave with the device's address in this segment, e.g. staff")
}

// leaving says it for people.
func leaving(f client.ToolFrom) string {
	switch {
	case f.Circuit != "":
		return ", by circuit " + f.Circuit
	case f.Tunnel != "":
		return ", into tunnel " + f.Tunnel
	case f.Segment != "":
		return ", from segment " + f.Segment
	}
	return ""
}

func newDevicePing() *cobra.Command {
	var want client.NewPing
	var interval, wait time.Duration
	var got client.PingResult
	cmd := verb[client.PingResult]{
		use: "ping DEVICE ADDRESS", short: "Ping an address from a device",
		example: "wardnet device ping d-26740 10.64.1.2 --from-segment staff\n  wardnet device ping d-26740 198.51.100.1 --circuit c-26740-1 --count 20 --interval 200ms\n  wardnet device ping d-26740 172.16.8.1 --tunnel c-26740-1--hub-1 --size 1400 --dont-fragment",
		args:    cobra.ExactArgs(2),
		ask: func(ctx context.Context, c *client.Client, args []string) (r client.PingResult, err error) {
			want.Destination = args[1]
			if want.IntervalMS, err = millis("interval", interval); err != nil {
				return r, err
			}
			if want.WaitMS, err = millis("wait", wait); err != nil {
				return r, err
			}
			got, err = c.Ping(ctx, inventory.DeviceID(args[0]), want)
			return got, err
		},
		show: func(w io.Writer, r client.PingResult) { showPing(w, want, r) },
		flags: func(cmd *cobra.Command) {
			toolFrom(cmd, &want.From)
			cmd.Flags().Uint32Var(&want.Count, "count", 4, "echo requests, 1 to 100")
			cmd.Flags().DurationVar(&interval, "interval", time.Second, "between two requests, 100ms to 5s")
			cmd.Flags().DurationVar(&wait, "wait", time.Second, "for each reply, up to 5s")
			cmd.Flags().Uint32Var(&want.SizeBytes, "size", 56, "payload in bytes, 1 to 8972")
			cmd.Flags().BoolVar(&want.DontFragment, "dont-fragment", false, "forbid everybody on the path to cut the packets, to find the MTU")
		},
	}.command()
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := run(cmd, args); err != nil {
			return err
		}
		if got.Summary.Received == 0 { // ping(8) says so by its exit code too
			return fmt.Errorf("%s has no reply from %s", got.Device, got.Destination)
		}
		return nil
	}
	return cmd
}

// millis reads a duration flag for the API, which counts whole milliseconds.
func millis(flag string, d time.Duration) (uint32, error) {
	if d < time.Millisecond || d > time.Hour {
		return 0, fmt.Errorf("%w: --%s %s: give at least 1ms and far less than an hour", inventory.ErrInvalid, flag, d)
	}
	return uint32(d / time.Millisecond), nil
}

func showPing(w io.Writer, want client.NewPing, r client.PingResult) {
	fmt.Fprintf(w, "PING %s from %s%s: %d data bytes\n", r.Destination, r.Device, leaving(want.From), want.SizeBytes)
	for _, p := range r.Replies {
		switch {
		case p.Error != "" && p.Source != "":
			fmt.Fprintf(w, "from %s: seq=%d %s\n", p.Source, p.Sequence, p.Error)
		case p.Error != "":
			fmt.Fprintf(w, "not sent: seq=%d %s\n", p.Sequence, p.Error)
		case p.Source == "":
			fmt.Fprintf(w, "no reply: seq=%d\n", p.Sequence)
		default:
			fmt.Fprintf(w, "%d bytes from %s: seq=%d ttl=%d time=%s\n", p.Bytes, p.Source, p.Sequence, p.HopLimit, milliseconds(p.TimeNS))
		}
	}
	s := r.Summary
	loss := 0.0
	if s.Sent > 0 {
		loss = 100 * float64(s.Sent-s.Received) / float64(s.Sent)
	}
	fmt.Fprintf(w, "--- %s: %d sent, %d received, %.0f %% lost\n", r.Destination, s.Sent, s.Received, loss)
	if s.Received > 0 {
		fmt.Fprintf(w, "round trip: min %s, avg %s, max %s, deviation %s\n", milliseconds(s.MinTimeNS), milliseconds(s.AvgTimeNS), milliseconds(s.MaxTimeNS), milliseconds(s.StdDevNS))
	}
}

func milliseconds(ns uint64) string { return fmt.Sprintf("%.3f ms", float64(ns)/1e6) }

func newDeviceTrace() *cobra.Command {
	var want client.NewTrace
	var wait time.Duration
	return verb[client.TraceResult]{
		use: "trace DEVICE ADDRESS", short: "Find the path from a device to an address",
		example: "wardnet device trace d-26740 10.0.0.10 --from-segment staff\n  wardnet device trace d-26740 192.0.2.1 --circuit c-26740-1 --json", args: cobra.ExactArgs(2),
		ask: func(ctx context.Context, c *client.Client, args []string) (r client.TraceResult, err error) {
			want.Destination = args[1]
			if want.WaitMS, err = millis("wait", wait); err != nil {
				return r, err
			}
			return c.Trace(ctx, inventory.DeviceID(args[0]), want)
		},
		show: func(w io.Writer, r client.TraceResult) { showTrace(w, want, r) },
		flags: func(cmd *cobra.Command) {
			toolFrom(cmd, &want.From)
			cmd.Flags().Uint32Var(&want.MaxHops, "max-hops", 30, "1 to 64")
			cmd.Flags().Uint32Var(&want.Probes, "probes", 3, "of each hop, 1 to 5")
			cmd.Flags().DurationVar(&wait, "wait", time.Second, "for each probe, up to 3s")
		},
	}.command()
}

// showTrace prints one line for each hop; an address is named when it changes.
func showTrace(w io.Writer, want client.NewTrace, r client.TraceResult) {
	fmt.Fprintf(w, "path from %s to %s%s, %d hops at most\n", r.Device, r.Destination, leaving(want.From), want.MaxHops)
	hop, address := uint32(0), ""
	for _, p := range r.Probes {
		if p.Hop != hop {
			if hop > 0 {
				fmt.Fprintln(w)
			}
			hop, address = p.Hop, ""
			fmt.Fprintf(w, "%2d ", hop)
		}
		switch {
		case p.Address == "" && p.State == "":
			fmt.Fprint(w, " *")
			continue
		case p.Address != "" && p.Address != address:
			address = p.Address
			fmt.Fprint(w, " ", address)
		}
		if p.Address != "" {
			fmt.Fprint(w, "  ", milliseconds(p.TimeNS))
		}
		if p.State != "" && p.State != "reached" {
			fmt.Fprintf(w, " (%s)", p.State)
		}
	}
	if hop > 0 {
		fmt.Fprintln(w)
	}
	if !r.Reached {
		fmt.Fprintln(w, "not reached")
	}
}

// captured is what a capture left.
type captured struct {
	Device  inventory.DeviceID `json:"device"`
	File    string             `json:"file"`
	Bytes   int                `json:"bytes"`
	Packets uint32             `json:"packets"`
	Dropped uint32             `json:"dropped"`
	Ended   string             `json:"ended"`
}

func newDeviceCapture() *cobra.Command {
	var want client.NewCapture
	var out string
	return verb[captured]{
		use: "capture DEVICE", short: "Capture packets of one of a device's ports into a pcap file",
		example: "wardnet device capture d-26740 --circuit c-26740-1 --filter 'udp port 51820' --out f.pcap\n  wardnet device capture d-26740 --tunnel c-26740-1--hub-1 --filter icmp --count 20 --seconds 30 --out f.pcap\n  wardnet device capture d-26740 --segment staff --snap 1514 --out f.pcap", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (captured, error) {
			id := inventory.DeviceID(args[0])
			save, err := newFile(out)
			if err != nil {
				return captured{}, err
			}
			r, err := c.Capture(ctx, id, want)
			if err := errors.Join(err, save(r.Pcap, err)); err != nil {
				return captured{}, err
			}
			return captured{Device: id, File: out, Bytes: len(r.Pcap), Packets: r.Packets, Dropped: r.Dropped, Ended: r.Ended}, nil
		},
		show: func(w io.Writer, r captured) {
			row(w, "file", r.File, fmt.Sprintf("%d bytes", r.Bytes))
			row(w, "packets", r.Packets)
			row(w, "dropped", r.Dropped)
			row(w, "ended by", "the limit of "+r.Ended)
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&want.Circuit, "circuit", "", "capture on this circuit's port")
			cmd.Flags().StringVar(&want.Tunnel, "tunnel", "", "capture inside this tunnel")
			cmd.Flags().StringVar(&want.Segment, "segment", "", "capture on this segment's port")
			cmd.Flags().StringVar(&want.Filter, "filter", "", "which packets, see pcap-filter(7); default all")
			cmd.Flags().Uint32Var(&want.MaxPackets, "count", 1000, "packets at most, 1 to 10000")
			cmd.Flags().Uint32Var(&want.MaxSeconds, "seconds", 10, "time at most, 1 to 60")
			cmd.Flags().Uint32Var(&want.SnapBytes, "snap", client.HeadersOnly, "bytes of each packet, 64 to 1514; more than 96 is for administrators only")
			cmd.Flags().Uint32Var(&want.MaxBytes, "bytes", 1<<20, "bytes of the file at most, up to 8388608")
			cmd.Flags().StringVar(&out, "out", "", "new file for the packets (0600) (required)")
		},
	}.command()
}

// newFile makes the file before anything is captured; save fills it, or takes
// it away when there is nothing to keep.
func newFile(path string) (save func(b []byte, failed error) error, err error) {
	if strings.TrimSpace(path) == "" {
		return nil, fmt.Errorf("%w: --out FILE says where the packets go", inventory.ErrInvalid)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: --out: %w", inventory.ErrInvalid, err)
	}
	return func(b []byte, failed error) error {
		if failed != nil {
			return errors.Join(f.Close(), os.Remove(path))
		}
		_, err := f.Write(b)
		return errors.Join(err, f.Close())
	}, nil
}
