package wireguard

import (
	"bufio"
	"cmp"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// Device is a WireGuard interface as it runs.
type Device struct {
	PublicKey  string // base64; empty: it has no key yet
	ListenPort uint16
	Mark       uint32          // SO_MARK of the outer packets
	MTU        int             // bytes
	Peers      map[string]Peer // by public key, base64
}

// Peer is a far end as it runs.
type Peer struct {
	Endpoint         netip.AddrPort // where it was heard last, else as configured; invalid: unknown
	AllowedIPs       []netip.Prefix // sorted
	KeepaliveSeconds int
	LastHandshake    time.Time // zero: never
	// RxBytes and TxBytes count outer packets since the peer was added; they
	// start again when the process does.
	RxBytes, TxBytes uint64
}

// PublicKey returns the public key of a private one, both in base64. Its error
// does not quote the key.
func PublicKey(private string) (string, error) {
	raw, err := decodeKey(private)
	if err != nil {
		return "", fmt.Errorf("private key: %w", err)
	}
	k, err := ecdh.X25519().NewPrivateKey(raw)
	if err != nil {
		return "", fmt.Errorf("%w: private key: %w", inventory.ErrInvalid, err)
	}
	return base64.StdEncoding.EncodeToString(k.PublicKey().Bytes()), nil
}

func decodeKey(key string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(key)
	if err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("%w: not 32 bytes in base64", inventory.ErrInvalid)
	}
	return raw, nil
}

// hexKey turns a key that was checked into the form of the UAPI.
func hexKey(key string) string {
	raw, _ := base64.StdEncoding.DecodeString(key)
	return hex.EncodeToString(raw)
}

var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)

// check lists all faults of what is wanted under the private key's public key.
func check(public string, want []render.WireGuard) error {
	var errs []error
	names, ports := map[string]bool{}, map[uint16]string{}
	for _, w := range want {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("%w: WireGuard device %q: %s", inventory.ErrInvalid, w.Name, fmt.Sprintf(format, args...)))
		}
		if !interfaceName.MatchString(w.Name) {
			bad("not an interface name of 1 to 15 characters")
		}
		if names[w.Name] {
			bad("listed twice")
		}
		names[w.Name] = true
		if other, ok := ports[w.ListenPort]; ok && w.ListenPort != 0 {
			bad("listens on port %d, and so does %q", w.ListenPort, other)
		}
		ports[w.ListenPort] = w.Name
		if w.MTU != 0 && (w.MTU < 1280 || w.MTU > 65535) {
			bad("MTU %d is not in 1280–65535", w.MTU)
		}
		checkPeers(public, w.Peers, bad)
	}
	return errors.Join(errs...)
}

func checkPeers(public string, peers []render.Peer, bad func(string, ...any)) {
	keys, owner := map[string]bool{}, map[netip.Prefix]string{}
	for _, p := range peers {
		if _, err := decodeKey(p.PublicKey); err != nil {
			bad("peer %s: public key is not 32 bytes in base64", p.Tunnel)
		}
		if p.PublicKey == public {
			bad("peer %s has the public key of this box", p.Tunnel)
		}
		if keys[p.PublicKey] {
			bad("peer %s has the public key of another peer", p.Tunnel)
		}
		keys[p.PublicKey] = true
		if p.KeepaliveSeconds < 0 || p.KeepaliveSeconds > 65535 {
			bad("peer %s: keepalive of %d s is not in 0–65535", p.Tunnel, p.KeepaliveSeconds)
		}
		for _, a := range p.AllowedIPs {
			if !a.IsValid() {
				bad("peer %s: an allowed prefix is not valid", p.Tunnel)
				continue
			}
			if other, ok := owner[a.Masked()]; ok {
				bad("peers %s and %s both own %s", other, p.Tunnel, a.Masked())
			}
			owner[a.Masked()] = p.Tunnel
		}
	}
}

// prefixes returns a's networks, sorted.
func prefixes(a []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(a))
	for _, p := range a {
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return out
}

// parse reads a device's state in WireGuard's cross-platform format. It skips
// what it does not know.
func parse(text string) (Device, error) {
	d := Device{Peers: map[string]Peer{}}
	var errs []error
	var key string
	var p Peer
	var at, nano int64
	keep := func() {
		if key == "" {
			return
		}
		if at != 0 || nano != 0 {
			p.LastHandshake = time.Unix(at, nano).UTC()
		}
		p.AllowedIPs = prefixes(p.AllowedIPs)
		d.Peers[key] = p
	}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		var err error
		switch name {
		case "listen_port":
			d.ListenPort, err = number[uint16](value, 16)
		case "fwmark":
			d.Mark, err = number[uint32](value, 32)
		case "public_key":
			keep()
			var raw []byte
			raw, err = hex.DecodeString(value)
			key, p, at, nano = base64.StdEncoding.EncodeToString(raw), Peer{}, 0, 0
		case "endpoint":
			p.Endpoint, err = netip.ParseAddrPort(value)
			p.Endpoint = plain(p.Endpoint)
		case "allowed_ip":
			var a netip.Prefix
			a, err = netip.ParsePrefix(value)
			p.AllowedIPs = append(p.AllowedIPs, a)
		case "persistent_keepalive_interval":
			p.KeepaliveSeconds, err = number[int](value, 16)
		case "last_handshake_time_sec":
			at, err = number[int64](value, 63)
		case "last_handshake_time_nsec":
			nano, err = number[int64](value, 63)
		case "rx_bytes":
			p.RxBytes, err = number[uint64](value, 64)
		case "tx_bytes":
			p.TxBytes, err = number[uint64](value, 64)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: %s: %w", inventory.ErrInvalid, name, err))
		}
	}
	keep()
	return d, errors.Join(errs...)
}

func number[T int | int64 | uint16 | uint32 | uint64](value string, bits int) (T, error) {
	n, err := strconv.ParseUint(value, 10, bits)
	return T(n), err
}

// plain writes an IPv4 address the short way.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
