package linux

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
)

// routedPause is the time between two looks at what FRR runs: it does not tell
// of a change. The packet filter and the interfaces do.
const routedPause = 7 * time.Second

// Of the kernel's nftables messages (linux/netfilter/nf_tables.h): what tells of
// a finished transaction, and by whom.
const (
	nftGroup    = 7  // NFNLGRP_NFTABLES
	nftNewGen   = 15 // NFT_MSG_NEWGEN
	nftGenPID   = 2  // NFTA_GEN_PROC_PID
	nftGenName  = 3  // NFTA_GEN_PROC_NAME
	nfgenmsgLen = 4
)

// editor is who changed the packet filter last.
type editor struct {
	at  time.Time
	who string
}

// hearFilter looks at the box again when anybody but us changes the packet
// filter, until ctx ends. A socket that breaks, as when its buffer overflows, is
// made anew and counts as a change.
func (h *Host) hearFilter(ctx context.Context) error {
	for {
		err := h.hearGenerations(ctx)
		if ctx.Err() != nil {
			return nil
		}
		h.deps.Log.WarnContext(ctx, "packet filter cannot be heard, trying again", "err", err)
		h.heal()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(daemonPause):
		}
	}
}

func (h *Host) hearGenerations(ctx context.Context) error {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER, nftGroup)
	if err != nil {
		return fmt.Errorf("hear the packet filter: %w", err)
	}
	stop := context.AfterFunc(ctx, s.Close)
	defer func() {
		if stop() {
			s.Close()
		}
	}()
	for {
		msgs, _, err := s.Receive()
		if err != nil {
			return fmt.Errorf("hear the packet filter: %w", err)
		}
		for _, m := range msgs {
			who, ok := generation(m.Header.Type, m.Data)
			if !ok {
				continue
			}
			if !h.mu.TryLock() {
				continue // we are changing the box ourselves
			}
			h.mu.Unlock()
			h.viewMu.Lock()
			h.edited = editor{time.Now(), who}
			h.viewMu.Unlock()
			h.heal()
		}
	}
}

// generation reads a message of a finished nftables transaction: by which
// process, and for which user as far as it still runs.
func generation(kind uint16, data []byte) (who string, ok bool) {
	if kind != unix.NFNL_SUBSYS_NFTABLES<<8|nftNewGen || len(data) < nfgenmsgLen {
		return "", false
	}
	attrs, err := nl.ParseRouteAttr(data[nfgenmsgLen:])
	if err != nil {
		return "", true // a transaction all the same
	}
	name, pid := "", uint32(0)
	for _, a := range attrs {
		switch {
		case a.Attr.Type == nftGenPID && len(a.Value) == 4:
			pid = binary.BigEndian.Uint32(a.Value)
		case a.Attr.Type == nftGenName:
			name = string(bytes.TrimRight(a.Value, "\x00"))
		}
	}
	if name == "" && pid == 0 {
		return "", true
	}
	who = fmt.Sprintf("process %s (pid %d)", printable(name), pid)
	if uid, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", pid)); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(uid)), 10, 32); err == nil && n != 1<<32-1 {
			who += fmt.Sprintf(" of login uid %d", n)
		}
	}
	return who, true
}

// printable keeps what a process calls itself from playing tricks in a log.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// byOthers are the differences that somebody made past us. What a carrier takes
// away (links, routes), and what a daemon that died lacks, is no drift.
func byOthers(diff []string, down bool) []string {
	var out []string
	for _, d := range diff {
		part, _, _ := strings.Cut(d, ":")
		switch {
		case part == "links" || part == "routes":
		case down && part == "routing":
		case strings.Contains(d, edge.ErrUnreachable.Error()):
		default:
			out = append(out, d)
		}
	}
	return out
}

// noteMend keeps what was found changed and is put back, for the controller.
func (h *Host) noteMend(diff []string) {
	if len(diff) == 0 {
		return
	}
	if n := len(diff); n > edge.MostMended {
		diff = append(slices.Clone(diff[:edge.MostMended]), fmt.Sprintf("… and %d more", n-edge.MostMended))
	}
	now := time.Now().UTC()
	h.viewMu.Lock()
	defer h.viewMu.Unlock()
	m := edge.Mend{At: now, What: diff}
	if slices.ContainsFunc(diff, func(d string) bool { return strings.HasPrefix(d, "filter:") }) && now.Sub(h.edited.at) < time.Minute {
		m.Who = h.edited.who
	}
	h.mends = append(h.mends, m)
	h.mended++
	if n := len(h.mends); n > edge.MostMends {
		h.mends = slices.Clone(h.mends[n-edge.MostMends:])
	}
}

// rerouted says whether FRR runs something else than it should, unless the box
// is being changed.
func (h *Host) rerouted(ctx context.Context) bool {
	if !h.mu.TryLock() {
		return false
	}
	defer h.mu.Unlock()
	now := h.current()
	if !now.applied || nothing(now.config) || len(h.routing.Down()) > 0 {
		return false
	}
	diff, err := h.routingDiff(ctx, now)
	return err == nil && len(diff) > 0
}
