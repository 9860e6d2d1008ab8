package acmeca

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/smallstep/certificates/acme"
)

const (
	probeTimeout = 10 * time.Second
	maxProbes    = 64      // validations at once
	maxKeyAuth   = 4 << 10 // bytes of a challenge's answer; a key authorization has under 200
	maxRedirects = 10
)

// special are the address blocks that are nobody's on the Internet (RFC 6890
// and the IANA special-purpose registries). Whoever may order a certificate
// must not steer our requests into them.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"::/127", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	"5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// mayProbe says whether a validation may connect to a: to the Internet, and to
// the networks the operator named.
func mayProbe(a netip.Addr, allowed []netip.Prefix) bool {
	a = a.Unmap().WithZone("")
	for _, p := range allowed {
		if p.Contains(a) {
			return true
		}
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsValid()
}

// prober is the [acme.Client] that looks at the proofs of control: it connects
// to permitted addresses and to ports 80 and 443 only, whatever names and
// redirects say, follows no proxy, and reads little.
type prober struct {
	http     *http.Client
	resolver *net.Resolver
	slots    chan struct{}
}

var _ acme.Client = (*prober)(nil)

func newProber(c Config) *prober {
	p := &prober{resolver: &net.Resolver{PreferGo: true}, slots: make(chan struct{}, maxProbes)}
	if c.Resolver != "" {
		p.resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, network, c.Resolver)
		}
	}
	dialer := &net.Dialer{
		Timeout: probeTimeout, Resolver: p.resolver,
		// Runs on the address that was resolved, just before connect: a name
		// that changes its mind in between cannot pass.
		Control: func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !mayProbe(at.Addr(), c.Networks) {
				return fmt.Errorf("validation does not connect to %s; name its network in acme.networks if it is yours", address)
			}
			return nil
		},
	}
	p.http = &http.Client{
		Timeout: probeTimeout,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= maxRedirects || (r.URL.Scheme != "http" && r.URL.Scheme != "https") {
				return errors.New("too many redirects, or one to something that is not HTTP")
			}
			return nil
		},
		Transport: &http.Transport{
			DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10, TLSHandshakeTimeout: probeTimeout,
			// RFC 8555 §8.3: a redirect to HTTPS may end at any certificate;
			// the proof is in the body.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				switch {
				case port == "80" && c.HTTPPort != 0:
					port = strconv.Itoa(c.HTTPPort)
				case port != "80" && port != "443":
					return nil, fmt.Errorf("validation uses ports 80 and 443, not %s", port)
				}
				return dialer.DialContext(ctx, network, net.JoinHostPort(host, port))
			},
		},
	}
	return p
}

// answer ends where a key authorization can have ended.
type answer struct {
	io.Reader
	io.Closer
}

// Get implements [acme.Client].
func (p *prober) Get(url string) (*http.Response, error) {
	p.slots <- struct{}{}
	defer func() { <-p.slots }()
	resp, err := p.http.Get(url)
	if err != nil {
		return nil, err
	}
	resp.Body = answer{io.LimitReader(resp.Body, maxKeyAuth), resp.Body}
	return resp, nil
}

// LookupTxt implements [acme.Client].
func (p *prober) LookupTxt(name string) ([]string, error) {
	p.slots <- struct{}{}
	defer func() { <-p.slots }()
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	return p.resolver.LookupTXT(ctx, name)
}

// TLSDial implements [acme.Client]; tls-alpn-01 is not offered.
func (p *prober) TLSDial(string, string, *tls.Config) (*tls.Conn, error) {
	return nil, errors.New("tls-alpn-01 is not offered; use http-01 or dns-01")
}
