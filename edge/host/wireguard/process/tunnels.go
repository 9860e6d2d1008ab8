package process

import (
	"bufio"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"

	"github.com/wardnet/wardnet/inventory"
)

// Memory the Go runtime may hold before it collects harder, in bytes: a share
// for the program and the packets in flight, and one for each device, which
// keeps 128 buffers of 64 KiB ready on its interface and on each UDP socket, and
// one for each peer, which may be silent: two packets a second wait for it, until
// [tunnels.drain] drops them. Most of a buffer is never written and so never
// resident; but the runtime counts it, and would look for garbage all the time.
const (
	baseMemory   = 88 << 20
	deviceMemory = 24 << 20
	peerMemory   = 512 << 10
)

// tunnels are the devices of the process.
type tunnels struct {
	log     *slog.Logger
	in, out *gate
	bounded bool // memory follows the number of devices
	cpus    *processors

	mu    sync.Mutex
	all   map[string]*tunnel
	peers int // at the last look
}

type tunnel struct {
	dev  *device.Device
	port *port
}

// list returns the devices, or only the named one.
func (t *tunnels) list(only string) ([]Device, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	var all []Device
	for _, name := range slices.Sorted(maps.Keys(t.all)) {
		if only != "" && name != only {
			continue
		}
		d, err := t.all[name].state(name)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	if only != "" && len(all) == 0 {
		return nil, fmt.Errorf("%w: WireGuard device %q", inventory.ErrNotFound, only)
	}
	return all, nil
}

// set creates or changes a device. A device that could not be created leaves
// nothing behind but the interface it found; one that could not be changed is as far as it came, and the
// driver reads it again.
func (t *tunnels) set(name string, mtu int, uapi string) error {
	if name == "" || strings.ContainsAny(name, "/ \n") {
		return fmt.Errorf("%w: device name %q", inventory.ErrInvalid, name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	if tun, ok := t.all[name]; ok {
		if mtu > 0 {
			if err := tun.port.raise(name, mtu); err != nil {
				return err
			}
		}
		return tun.configure(name, uapi)
	}
	if mtu == 0 {
		mtu = device.DefaultMTU
	}
	_, err := net.InterfaceByName(name)
	stayed := err == nil // from an earlier process
	p, err := openPort(name, mtu, t.in, t.out)
	if err != nil {
		return err
	}
	t.remember(len(t.all)+1, t.peers)
	dev := device.NewDevice(p, &bind{Bind: conn.NewStdNetBind(), in: t.in, out: t.out}, logger(t.log, name))
	tun := &tunnel{dev: dev, port: p}
	if err := tun.configure(name, uapi); err != nil {
		dev.Close()
		if !stayed {
			err = errors.Join(err, detach(name))
		}
		return err
	}
	t.all[name] = tun
	return nil
}

// delete ends a device and removes its interface, also one that an earlier
// process left behind.
func (t *tunnels) delete(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tun, ok := t.all[name]; ok {
		tun.dev.Close()
		delete(t.all, name)
		t.remember(len(t.all), t.peers)
	}
	return detach(name)
}

// closeAll ends all devices. Their interfaces stay, without a carrier.
func (t *tunnels) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tun := range t.all {
		tun.dev.Close()
	}
	clear(t.all)
}

// forget drops devices that ended by themselves because somebody removed their
// interface. The caller holds mu.
func (t *tunnels) forget() {
	for name, tun := range t.all {
		select {
		case <-tun.dev.Wait():
			t.log.Warn("interface was removed by somebody else", "interface", name)
			delete(t.all, name)
		default:
		}
	}
}

func (t *tunnels) remember(devices, peers int) {
	t.peers = peers
	if t.bounded {
		debug.SetMemoryLimit(baseMemory + int64(devices)*deviceMemory + int64(peers)*peerMemory)
	}
}

// configure changes the device and brings it up, which opens its UDP port.
func (t *tunnel) configure(name, uapi string) error {
	if err := t.dev.IpcSet(uapi); err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	if err := t.dev.Up(); err != nil {
		return fmt.Errorf("open the UDP port of %s: %w", name, err)
	}
	return nil
}

func (t *tunnel) state(name string) (Device, error) {
	text, err := t.dev.IpcGet()
	if err != nil {
		return Device{}, fmt.Errorf("read %s: %w", name, err)
	}
	mtu, err := t.port.MTU()
	if err != nil {
		return Device{}, fmt.Errorf("read the MTU of %s: %w", name, err)
	}
	d := Device{Name: name, MTU: mtu}
	d.UAPI, d.PublicKey, err = redact(text)
	if err != nil {
		return Device{}, fmt.Errorf("read %s: %w", name, err)
	}
	return d, nil
}

// redact takes the secret keys out of a device's state and returns the public
// key that belongs to the private one, empty when there is none.
func redact(text string) (clean, public string, err error) {
	var b strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch key {
		case "preshared_key":
		case "private_key":
			if public, err = publicKey(value); err != nil {
				return "", "", err
			}
		default:
			b.WriteString(lines.Text() + "\n")
		}
	}
	return b.String(), public, nil
}

// publicKey returns the base64 public key of a hexadecimal private one. Errors
// do not quote the key.
func publicKey(private string) (string, error) {
	raw, err := hex.DecodeString(private)
	if err != nil {
		return "", fmt.Errorf("%w: private key is not hexadecimal", inventory.ErrInvalid)
	}
	k, err := ecdh.X25519().NewPrivateKey(raw)
	if err != nil {
		return "", fmt.Errorf("%w: private key: %w", inventory.ErrInvalid, err)
	}
	return base64.StdEncoding.EncodeToString(k.PublicKey().Bytes()), nil
}
