package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sysNet is where the kernel shows the settings of the current network
// namespace.
const sysNet = "/proc/sys/net"

// setting is a kernel setting, by its path below sysNet.
type setting struct{ path, value string }

// forwarding are the switches that make the box a router.
var forwarding = []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"}

// perPort are the settings of every interface of the box. A packet's source is
// checked by the filter, port by port; the kernel's own check would be wrong
// where a box has several uplinks (RFC 3704 §2.4), so it is loose. Redirects
// and router advertisements could move a path: nobody may send us any.
// On an uplink the check is off altogether: see [uplinkCheck].
var perPort = []setting{
	{"ipv4/conf/%s/rp_filter", "2"},
	{"ipv4/conf/%s/accept_redirects", "0"},
	{"ipv4/conf/%s/send_redirects", "0"},
	{"ipv4/conf/%s/accept_source_route", "0"},
	{"ipv4/conf/%s/promote_secondaries", "1"},
	{"ipv6/conf/%s/accept_ra", "0"},
	{"ipv6/conf/%s/autoconf", "0"},
	{"ipv6/conf/%s/accept_redirects", "0"},
	{"ipv6/conf/%s/keep_addr_on_down", "1"},
}

// uplinkCheck turns the kernel's check of sources off on the ports of uplinks. A
// hub that comes back is told of the sites and tells the data centre's router at
// once, often before that one has told its own routes: the answers it then sends
// this way come from sources that the hub has no route to yet, which even the
// loose check drops. The filter knows an uplink's sources exactly. The kernel
// takes the stricter one of a port's setting and that of all.
func uplinkCheck(w inForce) (all []setting, port map[string]bool) {
	port = map[string]bool{}
	for _, u := range w.config.Uplinks {
		port[u.Port] = true
		all = []setting{{"ipv4/conf/all/rp_filter", "0"}}
	}
	return all, port
}

// kernelOps plans the settings of w. Forwarding comes first: the kernel resets
// others with it.
func kernelOps(w inForce) ([]op, error) {
	value := "1"
	if nothing(w.config) {
		value = "0"
	}
	var want []setting
	for _, path := range forwarding {
		want = append(want, setting{path, value})
	}
	all, uplinks := uplinkCheck(w)
	want = append(want, all...)
	for _, l := range w.box.Links {
		if l.Name == "lo" {
			continue
		}
		for _, s := range perPort {
			value := s.value
			if s.path == "ipv4/conf/%s/rp_filter" && uplinks[l.Name] {
				value = "0"
			}
			want = append(want, setting{fmt.Sprintf(s.path, l.Name), value})
		}
	}
	var ops []op
	for _, s := range want {
		have, err := readSetting(s.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a port that is missing, or a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		if have != s.value {
			ops = append(ops, op{s.path + " = " + s.value, func() error { return writeSetting(s) }})
		}
	}
	return ops, nil
}

// setForwarding turns the box into a router, or off.
func setForwarding(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	var errs []error
	for _, path := range forwarding {
		if have, err := readSetting(path); errors.Is(err, fs.ErrNotExist) || have == value {
			continue
		}
		errs = append(errs, writeSetting(setting{path, value}))
	}
	return errors.Join(errs...)
}

func readSetting(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join(sysNet, path))
	if err != nil {
		return "", fmt.Errorf("read kernel setting: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func writeSetting(s setting) error {
	if err := os.WriteFile(filepath.Join(sysNet, s.path), []byte(s.value), 0o644); err != nil {
		return fmt.Errorf("set kernel setting: %w", err)
	}
	return nil
}
