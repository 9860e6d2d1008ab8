package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/cli"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/clibox"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// How much is compared.
const (
	ansibleBoxes  = 20
	ansibleRounds = 5
	ansibleMust   = 3.0 // times as much processor time, both sides
)

// contest is twenty routers, and two tools that change them in turn from one
// place.
type contest struct {
	env            *env
	dir, noc       string
	boxes          []*clibox.Box
	client, server *clibox.Account
	driver         *driving
	userCA, hostCA ssh.Signer
	userPEM        []byte
	lines          [][]string // of the change, by box
}

// side is what one tool took for a change of all boxes and a run that changes
// nothing.
type side struct{ tools, routers, wall time.Duration }

func (s side) cpu() time.Duration { return s.tools + s.routers }

// ansibleRatio compares the CLI driver with ansible-playbook: the same change of
// every box and a second run without change, processor time of both sides. Both
// log in with certificates of one CA to the same sshd and vtysh, compare before
// they write, and read back. Both keep their connections from one round to the
// next, as they do in use; what they take with the logins is told beside it.
func ansibleRatio(ctx context.Context, e *env) (string, error) {
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("%w: needs root for network namespaces", errNotRun)
	}
	for program, pkg := range map[string]string{"ansible-playbook": "ansible-core", "vtysh": "frr", "ssh": "openssh-client"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("%w: needs %s (package %s)", errNotRun, program, pkg)
		}
	}
	c := &contest{env: e, dir: filepath.Join(e.dir, "ansible"), noc: fmt.Sprintf("wnc%d-noc", os.Getpid())}
	defer c.close()
	if err := c.open(ctx); err != nil {
		return "", err
	}
	var ours, theirs, oursCold, theirsCold []side
	if err := errors.Join(c.turn(ctx, &oursCold, c.wardnetCold), c.turn(ctx, &theirsCold, c.ansible)); err != nil {
		return "", err
	}
	for round := range ansibleRounds {
		turns := []func(context.Context) error{
			func(ctx context.Context) error { return c.turn(ctx, &ours, c.wardnet) },
			func(ctx context.Context) error { return c.turn(ctx, &theirs, c.ansible) },
		}
		if round%2 == 1 {
			slices.Reverse(turns)
		}
		for _, turn := range turns {
			if err := turn(ctx); err != nil {
				return "", fmt.Errorf("round %d: %w", round+1, err)
			}
		}
	}
	us, them := median(ours), median(theirs)
	ratio := them.cpu().Seconds() / us.cpu().Seconds()
	figure := fmt.Sprintf("%d routers, %d lines each, then no change; processor of both sides, median of %d: ansible %.2f s, the CLI driver %.2f s: %.1f times; tools + routers / elapsed, seconds, connections kept: ansible %s, driver %s; with the logins: ansible %s, driver %s",
		ansibleBoxes, len(c.lines[0]), ansibleRounds, them.cpu().Seconds(), us.cpu().Seconds(), ratio, theirs, ours, theirsCold, oursCold)
	if ratio < ansibleMust {
		return figure, fmt.Errorf("%.1f times is under %.0f", ratio, ansibleMust)
	}
	return figure, nil
}

func (s side) String() string {
	return fmt.Sprintf("%.2f+%.2f/%.2f", s.tools.Seconds(), s.routers.Seconds(), s.wall.Seconds())
}

// median is the one in the middle by processor time.
func median(list []side) side {
	all := slices.SortedFunc(slices.Values(list), func(a, b side) int { return cmp.Compare(a.cpu(), b.cpu()) })
	return all[len(all)/2]
}

// The configuration of box i before and after the change.
func contestBefore(i int) edge.Config { return contestConfig(i, 1, "10.64.0.0/20") }
func contestAfter(i int) edge.Config  { return contestConfig(i, 3, "10.64.0.0/20", "10.96.0.0/20") }

func contestConfig(i, neighbours int, networks ...string) edge.Config {
	c := edge.Config{Device: boxID(i), Role: inventory.RoleEdge, Loopback: netip.AddrFrom4([4]byte{172, 16, 1, byte(i)})}
	c.BGP = edge.BGP{ASN: uint32(4200000100 + i), RouterID: c.Loopback}
	for _, n := range networks {
		c.BGP.Networks = append(c.BGP.Networks, netip.MustParsePrefix(n))
	}
	for n := range neighbours {
		name := fmt.Sprintf("c-%d-%d--hub", i, n)
		c.Tunnels = append(c.Tunnels, edge.Tunnel{Name: name, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		c.BGP.Neighbours = append(c.BGP.Neighbours, edge.Neighbour{
			Tunnel: name, Addr: netip.AddrFrom4([4]byte{172, 17, byte(i), byte(2*n + 1)}), ASN: 4200000001,
			Preference: 1000 - 100*min(n, 1), BFDMinMS: 300, BFDMult: 3,
		})
	}
	return c
}

func boxID(i int) inventory.DeviceID { return inventory.DeviceID(fmt.Sprintf("r-%02d", i+1)) }

func boxAddr(i int) string { return netip.AddrFrom4([4]byte{10, 255, 0, byte(10 + i)}).String() }

// turn puts the boxes back, lets one tool work, and looks at every box.
func (c *contest) turn(ctx context.Context, into *[]side, tool func(context.Context) (time.Duration, error)) error {
	if _, err := c.drive(ctx, 1, contestBefore); err != nil {
		return err
	}
	start, err := c.used()
	if err != nil {
		return err
	}
	wall, err := tool(ctx)
	if err != nil {
		return err
	}
	end, err := c.used()
	if err != nil {
		return err
	}
	for i, b := range c.boxes {
		text, err := b.Vtysh(ctx, "show running-config")
		if err != nil {
			return err
		}
		for _, line := range c.lines[i] {
			if !strings.Contains(text, line+"\n") {
				return fmt.Errorf("%s lacks %q after it was changed", boxID(i), line)
			}
		}
	}
	*into = append(*into, side{end.tools - start.tools, end.routers - start.routers, wall})
	return nil
}

func (c *contest) used() (s side, err error) {
	var err1, err2 error
	s.tools, err1 = c.client.Used()
	s.routers, err2 = c.server.Used()
	return s, errors.Join(err1, err2)
}

func (c *contest) ansible(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	for _, want := range []string{"changed=1", "changed=0"} {
		out, err := c.run(ctx, nil, "ansible-playbook", "-f", fmt.Sprint(ansibleBoxes), "-i", filepath.Join(c.dir, "hosts.json"), filepath.Join(c.dir, "change.yaml"))
		if err != nil {
			return 0, err
		}
		if n := bytes.Count(out, []byte(want)); n != ansibleBoxes || !bytes.Contains(out, []byte("failed=0")) {
			return 0, fmt.Errorf("ansible: %d boxes with %s, want %d:\n%s", n, want, ansibleBoxes, tail(string(out), 2000))
		}
	}
	return time.Since(start), nil
}

// run runs one program where the tools are, on their account.
func (c *contest) run(ctx context.Context, stdin []byte, argv ...string) ([]byte, error) {
	program := argv[0]
	argv = c.client.Command(append([]string{"ip", "netns", "exec", c.noc}, argv...)...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir = bytes.NewReader(stdin), &out, &errOut, c.dir
	cmd.Env = append(os.Environ(), "ANSIBLE_CONFIG="+filepath.Join(c.dir, "ansible.cfg"), "HOME="+c.dir, "LC_ALL=C.UTF-8")
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, tail(out.String()+errOut.String(), 3000))
	}
	return out.Bytes(), nil
}

// open builds the place and the boxes.
func (c *contest) open(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	if r, err := c.env.command(ctx, "go", "build", "-o", filepath.Join(c.dir, "drive"), "./labs/clibox/drive"); err != nil || r.code != 0 {
		return fmt.Errorf("build the driver's program: exit %d: %w", r.code, errors.Join(err, errors.New(r.errOut)))
	}
	var err1, err2, err error
	c.userCA, c.userPEM, err1 = newCA()
	c.hostCA, _, err2 = newCA()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if c.client, err = clibox.NewAccount("tools"); err != nil {
		return err
	}
	if c.server, err = clibox.NewAccount("routers"); err != nil {
		return err
	}
	if err := c.plumb(ctx); err != nil {
		return err
	}
	c.boxes = make([]*clibox.Box, ansibleBoxes)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range c.boxes {
		g.Go(func() (err error) {
			c.boxes[i], err = c.startBox(gctx, i)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, b := range c.boxes {
		lines, err := cli.Commands("frr", contestBefore(i), contestAfter(i))
		if err != nil {
			return err
		}
		c.lines = append(c.lines, lines)
		pids, err := b.Processes()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := c.server.Add(pid); err != nil {
				return err
			}
		}
	}
	if n := len(c.lines[0]); n < 28 || n > 32 {
		return fmt.Errorf("the change has %d lines, about 30 are meant: %q", n, c.lines[0])
	}
	return c.playbook()
}

func (c *contest) space(i int) string { return fmt.Sprintf("wnc%d-%02d", os.Getpid(), i+1) }

func (c *contest) startBox(ctx context.Context, i int) (*clibox.Box, error) {
	dir := filepath.Join(c.dir, string(boxID(i)))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// Who asks for a command gets it, and who asks for a shell gets vtysh.
	shell := filepath.Join(dir, "shell")
	text := fmt.Sprintf("#!/bin/sh\nif [ -n \"$SSH_ORIGINAL_COMMAND\" ]; then exec vtysh -N %[1]s -c \"$SSH_ORIGINAL_COMMAND\"; fi\nexec vtysh -N %[1]s\n", c.space(i))
	if err := os.WriteFile(shell, []byte(text), 0o700); err != nil {
		return nil, err
	}
	return clibox.Start(ctx, clibox.Config{
		Space: c.space(i), Dir: dir, UserCA: c.userCA.PublicKey(), Address: boxAddr(i), Shell: shell,
		Certify: func(_ context.Context, pub ssh.PublicKey) (*ssh.Certificate, error) {
			return c.certificate(c.hostCA, ssh.HostCert, pub, string(boxID(i)), boxAddr(i))
		},
	})
}

// close ends the boxes and what the tools left, such as ssh's masters.
func (c *contest) close() {
	c.stopDriver()
	var errs []error
	for _, b := range c.boxes {
		if b != nil {
			errs = append(errs, b.Stop())
		}
	}
	pids, err := netns.Processes(c.noc)
	errs = append(errs, err)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended just now
	}
	for _, a := range []*clibox.Account{c.client, c.server} {
		for end := time.Now().Add(5 * time.Second); a != nil; time.Sleep(100 * time.Millisecond) { // the dead leave it late
			if err := a.Close(); err == nil || time.Now().After(end) {
				errs = append(errs, err)
				break
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	spaces := []string{c.noc}
	for i := range ansibleBoxes {
		spaces = append(spaces, c.space(i))
	}
	for _, s := range spaces {
		if netns.Exists(s) {
			_, err := c.env.command(ctx, "ip", "netns", "del", s)
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "accept: left behind:", err)
	}
}
