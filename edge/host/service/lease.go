package service

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/inventory"
)

// Leases returns the leases of each segment that the box lends addresses in,
// those that have not run out, sorted by address.
func (s *Services) Leases(ctx context.Context) (map[inventory.SegmentKind][]agent.Lease, error) {
	entries, err := os.ReadDir(s.leaseDir())
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	out := map[inventory.SegmentKind][]agent.Lease{}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read leases: %w", context.Cause(ctx))
		}
		f, err := os.Open(filepath.Join(s.leaseDir(), e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read leases: %w", err)
		}
		list, err := parseLeases(f, time.Now())
		_ = f.Close() // it was only read
		if err != nil {
			return nil, fmt.Errorf("read leases of %s: %w", e.Name(), err)
		}
		out[inventory.SegmentKind(e.Name())] = list
	}
	return out, nil
}

// parseLeases reads dnsmasq's file: the second a lease ends (0: never), MAC,
// address, name or "*", client id. Lines that are not of IPv4 are left out.
func parseLeases(r io.Reader, now time.Time) ([]agent.Lease, error) {
	var out []agent.Lease
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 {
			continue
		}
		end, err1 := strconv.ParseInt(f[0], 10, 64)
		addr, err2 := netip.ParseAddr(f[2])
		if err1 != nil || err2 != nil || !addr.Is4() || end != 0 && end <= now.Unix() {
			continue
		}
		l := agent.Lease{Addr: addr, MAC: strings.ToLower(f[1]), Name: f[3]}
		if end != 0 {
			l.Until = time.Unix(end, 0).UTC()
		}
		if l.Name == "*" {
			l.Name = ""
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b agent.Lease) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.MAC, b.MAC)) })
	return out, lines.Err()
}

// leaseStamp changes when a lease file does.
func (s *Services) leaseStamp() string {
	entries, err := os.ReadDir(s.leaseDir())
	if err != nil {
		return "" // Leases says why to who asks
	}
	var b strings.Builder
	for _, e := range entries {
		if i, err := e.Info(); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", e.Name(), i.Size(), i.ModTime().UnixNano())
		}
	}
	return b.String()
}
