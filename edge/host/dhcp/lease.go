// Package dhcp keeps the IPv4 address of one network interface leased (RFC
// 2131): it finds a server, renews, survives restarts with the lease on disk,
// and says when the lease changes. It does not configure the interface.
package dhcp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Lease is what a server granted. The zero Lease is none.
type Lease struct {
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	DNS     []netip.Addr `json:"dns,omitempty"`
	Server  netip.Addr   `json:"server,omitzero"`
	Granted time.Time    `json:"granted"`
	Renew   time.Time    `json:"renew"`  // T1
	Rebind  time.Time    `json:"rebind"` // T2
	Expires time.Time    `json:"expires"`
}

// Valid says whether the lease may be used at now.
func (l Lease) Valid(now time.Time) bool { return l.Address.IsValid() && now.Before(l.Expires) }

// Same says whether the interface would be configured alike.
func (l Lease) Same(o Lease) bool {
	return l.Address == o.Address && l.Gateway == o.Gateway && slices.Equal(l.DNS, o.DNS)
}

// shortest is the least lease time we take; a server that grants less would be
// asked all the time.
const shortest = 10 * time.Second

// granted reads a server's acknowledgement that arrived at now.
func granted(ack *dhcpv4.DHCPv4, now time.Time) (Lease, error) {
	addr, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return Lease{}, fmt.Errorf("read DHCP lease: the server granted address %v", ack.YourIPAddr)
	}
	bits := 32
	if mask := ack.SubnetMask(); mask != nil {
		ones, size := mask.Size()
		if size != 32 || ones == 0 {
			return Lease{}, fmt.Errorf("read DHCP lease: the server granted netmask %v", mask)
		}
		bits = ones
	}
	term := max(ack.IPAddressLeaseTime(time.Hour), shortest)
	t1 := ack.IPAddressRenewalTime(term / 2)
	t2 := ack.IPAddressRebindingTime(term * 7 / 8)
	if t1 <= 0 || t1 >= t2 || t2 >= term {
		t1, t2 = term/2, term*7/8
	}
	l := Lease{
		Address: netip.PrefixFrom(addr, bits), Granted: now,
		Renew: now.Add(t1), Rebind: now.Add(t2), Expires: now.Add(term),
	}
	if routers := ack.Router(); len(routers) > 0 {
		l.Gateway, _ = netip.AddrFromSlice(routers[0].To4())
	}
	if server := ack.ServerIdentifier(); server != nil {
		l.Server, _ = netip.AddrFromSlice(server.To4())
	}
	for _, ip := range ack.DNS() {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok {
			l.DNS = append(l.DNS, a)
		}
	}
	return l, nil
}

// Stored returns the lease that a client kept in file, if it may still be used
// at now; else the zero Lease.
func Stored(file string, now time.Time) Lease {
	if l, err := load(file); err == nil && l.Valid(now) {
		return l
	}
	return Lease{}
}

// load reads a lease from its file; none and a damaged one are no lease.
func load(file string) (Lease, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Lease{}, nil
	}
	var l Lease
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil {
		return Lease{}, fmt.Errorf("read DHCP lease: %w", err)
	}
	return l, nil
}

// save keeps a lease for the next process. It is not synced: a lost one costs
// one question to the server.
func save(file string, l Lease) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("keep DHCP lease: %w", err)
	}
	next := file + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return fmt.Errorf("keep DHCP lease: %w", err)
	}
	if err := os.Rename(next, file); err != nil {
		return fmt.Errorf("keep DHCP lease: %w", err)
	}
	return nil
}
