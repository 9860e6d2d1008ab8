package frr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// askLimit bounds one question to a daemon. A whole configuration, which a
// city's hub takes long to write, has shortLimit.
const (
	askLimit  = 2 * time.Second
	wholeConf = "show running-config"
)

// conn is a connection to a daemon's own shell socket, as vtysh opens it, kept
// open so that a question costs no process. A question is a line that ends in a
// zero byte; the answer ends in three zero bytes and a status.
type conn struct {
	mu sync.Mutex
	c  net.Conn
}

// Sessions is what BFD and BGP say of their peers, by the peer's address.
type Sessions struct {
	BFD map[netip.Addr]bool // up
	BGP map[netip.Addr]bool // established
	// Since is how long each BGP session has been as it is.
	Since map[netip.Addr]time.Duration
}

// Sessions asks bfdd and bgpd; a daemon that is down has no session that is up.
func (i *Instance) Sessions(ctx context.Context) (Sessions, error) {
	s := Sessions{BFD: map[netip.Addr]bool{}, BGP: map[netip.Addr]bool{}, Since: map[netip.Addr]time.Duration{}}
	bfd, err := i.ask(ctx, "bfdd", "show bfd peers json")
	if err != nil && !isDown(err) {
		return s, err
	}
	bgp, err := i.ask(ctx, "bgpd", "show bgp summary json")
	if err != nil && !isDown(err) {
		return s, err
	}
	return s, errors.Join(s.readBFD(bfd), s.readBGP(bgp))
}

// isDown says whether nobody serves the socket, or who did ended in the middle
// of the question, also when asked again.
func isDown(err error) bool {
	for _, e := range []error{fs.ErrNotExist, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s Sessions) readBFD(text string) error {
	if !strings.HasPrefix(text, "[") {
		return nil // no session, said in words
	}
	var peers []struct {
		Peer   netip.Addr `json:"peer"`
		Status string     `json:"status"`
	}
	if err := json.Unmarshal([]byte(text), &peers); err != nil {
		return fmt.Errorf("read BFD sessions: %w", err)
	}
	for _, p := range peers {
		s.BFD[p.Peer] = s.BFD[p.Peer] || p.Status == "up"
	}
	return nil
}

func (s Sessions) readBGP(text string) error {
	if !strings.HasPrefix(text, "{") {
		return nil // no instance, said in words
	}
	var families map[string]struct {
		Peers map[string]struct {
			State      string `json:"state"`
			UptimeMsec int64  `json:"peerUptimeMsec"`
		} `json:"peers"`
	}
	if err := json.Unmarshal([]byte(text), &families); err != nil {
		return fmt.Errorf("read BGP sessions: %w", err)
	}
	for _, f := range families {
		for name, p := range f.Peers {
			addr, err := netip.ParseAddr(name)
			if err != nil {
				continue // a session named by its interface is none of ours
			}
			s.BGP[addr] = s.BGP[addr] || p.State == "Established"
			s.Since[addr] = time.Duration(p.UptimeMsec) * time.Millisecond
		}
	}
	return nil
}

// answers says whether a daemon serves its socket.
func (i *Instance) answers(name string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), askLimit)
	defer cancel()
	_, err := i.ask(ctx, name, "show version")
	return err == nil
}

// ask puts one question to one daemon, over a fresh connection when the old one
// broke.
func (i *Instance) ask(ctx context.Context, name, question string) (string, error) {
	i.mu.Lock()
	k := i.conns[name]
	if k == nil {
		k = &conn{}
		i.conns[name] = k
	}
	i.mu.Unlock()

	k.mu.Lock()
	defer k.mu.Unlock()
	var err error
	for range 2 {
		if k.c == nil {
			var d net.Dialer
			if k.c, err = d.DialContext(ctx, "unix", filepath.Join(i.vty, name+".vty")); err != nil {
				k.c = nil
				return "", fmt.Errorf("ask FRR's %s: %w", name, err)
			}
			_, err = exchange(ctx, k.c, "enable") // some questions need it
		}
		var answer string
		if err == nil {
			answer, err = exchange(ctx, k.c, question)
		}
		if err == nil && strings.Contains(answer, "Unknown command") {
			return "", fmt.Errorf("ask FRR's %s %q: %s", name, question, answer)
		}
		if err == nil {
			return answer, nil
		}
		_ = k.c.Close() // broken
		k.c = nil
		if ctx.Err() != nil {
			break
		}
	}
	return "", fmt.Errorf("ask FRR's %s %q: %w", name, question, err)
}

func exchange(ctx context.Context, c net.Conn, question string) (string, error) {
	limit := askLimit
	if question == wholeConf {
		limit = shortLimit
	}
	deadline := time.Now().Add(limit)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := c.Write(append([]byte(question), 0)); err != nil {
		return "", err
	}
	var answer []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return "", err
		}
		answer = append(answer, buf[:n]...)
		if end := len(answer) - 4; end >= 0 && answer[end] == 0 && answer[end+1] == 0 && answer[end+2] == 0 {
			return strings.TrimSpace(string(answer[:end])), nil
		}
	}
}

// hangUp closes the connection to a daemon.
func (i *Instance) hangUp(name string) {
	i.mu.Lock()
	k := i.conns[name]
	delete(i.conns, name)
	i.mu.Unlock()
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.c != nil {
		_ = k.c.Close() // nothing was in flight
		k.c = nil
	}
}

// Close hangs up; the daemons run on.
func (i *Instance) Close() {
	for _, name := range daemonOrder {
		i.hangUp(name)
	}
}
