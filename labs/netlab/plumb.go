package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// commandTime bounds one call of an external program.
const commandTime = time.Minute

// tools are the programs a lab is made with, by absolute path.
type tools struct {
	ip, nft, dnsmasq, vtysh string
	frr                     string // directory of FRR's daemons
}

// findTools reports every missing program at once.
func findTools() (tools, error) {
	var t tools
	var errs []error
	for _, x := range []struct {
		into    *string
		name    string
		deb     string
		atFixed string
	}{
		{&t.ip, "ip", "iproute2", "/usr/sbin/ip"},
		{&t.nft, "nft", "nftables", "/usr/sbin/nft"},
		{&t.dnsmasq, "dnsmasq", "dnsmasq-base", "/usr/sbin/dnsmasq"},
		{&t.vtysh, "vtysh", "frr", "/usr/bin/vtysh"},
		{&t.frr, "zebra", "frr", "/usr/lib/frr/zebra"},
	} {
		path, err := exec.LookPath(x.name)
		if err != nil {
			path, err = exec.LookPath(x.atFixed)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: %s is missing; install the Debian package %s", inventory.ErrNotFound, x.name, x.deb))
		}
		*x.into = path
	}
	t.frr = filepath.Dir(t.frr)
	return t, errors.Join(errs...)
}

// run calls a program with text on its standard input; what it complained of
// is in the error.
func run(ctx context.Context, stdin, program string, args ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, fmt.Errorf("took over %s", commandTime))
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// plumb makes what is missing of t: namespaces, links, addresses, routes. The
// links of t must not be there yet.
func (t tools) plumb(ctx context.Context, top Topology) error {
	have, err := netns.List(top.Prefix + "-")
	if err != nil {
		return err
	}
	missing := map[string]bool{}
	for _, n := range top.Namespaces {
		missing[n.Name] = !slices.Contains(have, n.Name)
	}
	if err := run(ctx, top.createBatch(missing), t.ip, "-batch", "-"); err != nil {
		return fmt.Errorf("make namespaces and links: %w", err)
	}
	err = inParallel(top.Namespaces, func(n Namespace) error {
		if !missing[n.Name] {
			return nil
		}
		return settings(n)
	})
	if err != nil {
		return err
	}
	if err := t.each(ctx, top.addressBatches()); err != nil {
		return fmt.Errorf("set addresses: %w", err)
	}
	if err := t.each(ctx, top.routeBatches()); err != nil {
		return fmt.Errorf("set routes: %w", err)
	}
	return inParallel(top.Links, plainChecksums)
}

// each runs one "ip -batch" per namespace.
func (t tools) each(ctx context.Context, batches map[string]string) error {
	names := make([]string, 0, len(batches))
	for n := range batches {
		names = append(names, n)
	}
	return inParallel(names, func(n string) error {
		return run(ctx, batches[n], t.ip, "-n", n, "-batch", "-")
	})
}

// inParallel calls fn for every element, a few at a time.
func inParallel[T any](list []T, fn func(T) error) error {
	var g errgroup.Group
	g.SetLimit(2 * runtime.NumCPU())
	for _, v := range list {
		g.Go(func() error { return fn(v) })
	}
	return g.Wait()
}

// settings writes a namespace's kernel settings.
func settings(n Namespace) error {
	return netns.Do(n.Name, func() error {
		for key, value := range n.sysctls() {
			if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), []byte(value), 0); err != nil {
				return fmt.Errorf("namespace %s: set %s: %w", n.Name, key, err)
			}
		}
		return nil
	})
}

// plainChecksums switches the checksum and segmentation offload of a circuit's
// veths off: a forwarder on packet sockets, with which faults are injected,
// would pass on checksums that nobody ever completed.
func plainChecksums(l Link) error {
	if l.Kind != LinkCircuit {
		return nil
	}
	for _, e := range []End{l.A, l.B} {
		if err := netns.Do(e.NS, func() error { return offloadsOff(e.Port) }); err != nil {
			return fmt.Errorf("offloads of %s in %s: %w", e.Port, e.NS, err)
		}
	}
	return nil
}

// ethtool is struct ethtool_value, linux/ethtool.h.
type ethtool struct{ cmd, data uint32 }

// ifreqData is struct ifreq with ifr_data.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// The commands of linux/ethtool.h that switch an offload.
const (
	ethtoolSetTxCsum = 0x17
	ethtoolSetTSO    = 0x1f
	ethtoolSetGSO    = 0x24
	ethtoolSetGRO    = 0x2c
)

func offloadsOff(port string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, cmd := range []uint32{ethtoolSetTSO, ethtoolSetGSO, ethtoolSetGRO, ethtoolSetTxCsum} {
		v := &ethtool{cmd: cmd}
		req := &ifreqData{data: unsafe.Pointer(v)}
		copy(req.name[:unix.IFNAMSIZ-1], port)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(req))); errno != 0 {
			return fmt.Errorf("ethtool command %#x: %w", cmd, errno)
		}
		runtime.KeepAlive(v)
	}
	return nil
}
