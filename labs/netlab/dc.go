package netlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// Where FRR keeps the sockets and pid files of its instances; ours are named
// after their namespace.
const frrRun = "/run/frr"

// startRouter starts the data centre's router, FRR, and loads its
// configuration.
func (l *Lab) startRouter(ctx context.Context) error {
	dc := l.Topology.DC
	uid, gid, err := frrUser()
	if err != nil {
		return err
	}
	for _, dir := range []string{frrRun, filepath.Join(frrRun, dc)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("sockets of %s's router: %w", dc, err)
		}
		if err := os.Chown(dir, uid, gid); err != nil {
			return fmt.Errorf("sockets of %s's router: %w", dc, err)
		}
	}
	conf := l.path("frr")
	if err := os.MkdirAll(filepath.Join(conf, dc), 0o755); err != nil {
		return fmt.Errorf("configuration of %s's router: %w", dc, err)
	}
	file := filepath.Join(conf, dc, "frr.conf")
	if err := os.WriteFile(file, []byte(l.Topology.frrText()), 0o600); err != nil {
		return fmt.Errorf("configuration of %s's router: %w", dc, err)
	}
	if err := os.WriteFile(filepath.Join(conf, dc, "vtysh.conf"), nil, 0o600); err != nil {
		return fmt.Errorf("configuration of %s's router: %w", dc, err)
	}
	for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
		ctx, cancel := context.WithTimeoutCause(ctx, commandTime, fmt.Errorf("took over %s", commandTime))
		defer cancel()
		if _, err := netns.Output(ctx, dc, filepath.Join(l.tools.frr, daemon), "-d", "-N", dc, "-A", "127.0.0.1", "-P", "0"); err != nil {
			return fmt.Errorf("start %s: %w", daemon, err)
		}
	}
	_, err = l.vtysh(ctx, dc, "--config_dir", conf, "-f", file)
	return err
}

// vtysh runs a command of FRR's shell on the instance that is named after its
// namespace.
func (l *Lab) vtysh(ctx context.Context, ns string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("took over 15s"))
	defer cancel()
	return netns.Output(ctx, ns, l.tools.vtysh, append([]string{"-N", ns}, args...)...)
}

func frrUser() (uid, gid int, err error) {
	u, err := user.Lookup("frr")
	if err != nil {
		return 0, 0, fmt.Errorf("find FRR's user; install the Debian package frr: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(err1, err2)
}

// sessions counts the BGP sessions that an instance has and that are
// established, each neighbour once, and how often one of them was lost since the
// instance started.
func (l *Lab) sessions(ctx context.Context, ns string) (s sessionCount, err error) {
	out, err := l.vtysh(ctx, ns, "-c", "show bgp summary json")
	if err != nil {
		return s, err
	}
	var families map[string]json.RawMessage
	if err := json.Unmarshal([]byte(out), &families); err != nil {
		return s, fmt.Errorf("sessions in %s: %w", ns, err)
	}
	seen := map[string]bool{}
	lost := map[string]int{}
	for _, raw := range families {
		var f struct {
			Peers map[string]struct {
				State   string `json:"state"`
				Dropped int    `json:"connectionsDropped"`
			} `json:"peers"`
		}
		if json.Unmarshal(raw, &f) != nil {
			continue // a figure, not an address family
		}
		for peer, p := range f.Peers {
			established := p.State == "Established"
			if was, ok := seen[peer]; ok {
				established = established && was
			}
			seen[peer] = established
			lost[peer] = p.Dropped
		}
	}
	for peer, established := range seen {
		s.want++
		s.up += one(established)
		s.lost += lost[peer]
	}
	return s, nil
}

// sessionCount is about the BGP sessions of one instance.
type sessionCount struct {
	want, up int
	lost     int // times that a session ended, since the instance started
}
