package enrol

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// smallSegment is the TCP segment size in bytes that every path carries
// (RFC 9293 §3.7.1).
const smallSegment = 536

// walk goes the way to the controller, step by step, as often as it takes, and
// records where it stops. An attempt that stalls after the connection stands is
// repeated at once with small segments: getting further with them shows that
// large packets are lost, and then they are kept to.
type walk struct {
	client  Client
	tls     *tls.Config
	again   bool     // the attempt that failed is to be repeated at once
	small   bool     // segments
	last    StepName // where the last attempt ended
	suspect StepName // where the attempt before stalled; empty: none did
	stall   error
}

// leg is one attempt. The transport calls back from goroutines of its own, and
// may do so when the attempt is long over: then it says nothing any more.
type leg struct {
	client Client
	small  bool

	mu      sync.Mutex
	over    bool
	step    StepName // under way
	suspect StepName // proven innocent or guilty when it is passed
}

func (l *leg) begin(name StepName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.step = name
	}
}

// pass records a step that went well, and what that says of a stall before:
// small segments went where large ones had not.
func (l *leg) pass(s Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.prove(s.Name)
	l.client.record(s)
}

// prove clears the suspicion when name is what stalled before; l.mu is held.
func (l *leg) prove(name StepName) {
	if l.suspect == name && name != "" {
		l.suspect = ""
		l.client.stopped(name, &causeError{CauseMTU, fmt.Errorf("large packets are lost on the way and small ones (segments of %d bytes) arrive; lower the port's MTU", smallSegment)})
	}
}

// end closes the leg and says where it stands.
func (l *leg) end(answered bool) (step, suspect StepName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if answered {
		l.prove(StepToken)
	}
	l.over = true
	return l.step, l.suspect
}

// attempt makes one request. wait is the least pause the server asked for.
func (w *walk) attempt(ctx context.Context, to string, body func() any) (r Response, wait time.Duration, err error) {
	l := &leg{client: w.client, small: w.small, step: StepTCP, suspect: w.suspect}
	each := w.client.timeout()
	transport := &http.Transport{
		TLSClientConfig: w.tls, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		DialContext: l.dial, TLSHandshakeTimeout: each, ResponseHeaderTimeout: 3 * each,
	}
	defer transport.CloseIdleConnections()
	trace := &httptrace.ClientTrace{
		TLSHandshakeStart: func() { l.begin(StepTLS) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err == nil {
				l.pass(Step{Name: StepTLS, State: StepPassed})
				l.begin(StepToken)
			}
		},
	}
	client := &http.Client{Transport: transport, Timeout: 6 * each}
	r, wait, err = ask(httptrace.WithClientTrace(ctx, trace), client, to, &lazy{make: body})
	var refused *RefusedError
	answered := err == nil || errors.As(err, &refused) || errors.Is(err, errBusy)
	w.again = false
	w.last, w.suspect = l.end(answered)
	switch {
	case err == nil:
	case answered && Classify(err) == CauseClockSkew:
		w.client.stopped(StepClock, err)
	case answered:
		w.client.stopped(StepToken, err)
	case ctx.Err() != nil: // stopped from outside, which is no fault of the way
	default:
		if u, bad := url.Parse(to); bad == nil {
			err = judgeServer(err, w.tls.RootCAs, u.Hostname(), w.client.now())
			err = w.lookForPortal(ctx, u.Hostname(), err)
		}
		w.failed(err)
	}
	return r, wait, err
}

// failed records where an attempt stopped and decides how to go on.
func (w *walk) failed(err error) {
	cause, before, stall := Classify(err), w.suspect, w.stall
	switch cause {
	case CauseClockSkew:
		w.last = StepClock
	case CauseNoRoute:
		w.last = StepRoute
	case CauseTimeout:
		w.again = !w.small && (w.last == StepTLS || w.last == StepToken)
	}
	if w.again { // say nothing until small segments have been tried
		w.small, w.suspect, w.stall = true, w.last, err
		return
	}
	if before != "" { // and they were no better
		w.small, w.suspect, w.stall = false, "", nil
		w.client.stopped(before, stall)
	}
	if before != w.last {
		w.client.stopped(w.last, err)
	}
}

// dial resolves and connects; addr is the controller's, or a proxy's.
func (l *leg) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	addrs, err := l.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	l.begin(StepTCP)
	var errs []error
	for _, a := range addrs {
		conn, err := l.connect(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			l.pass(Step{Name: StepTCP, State: StepPassed, Detail: conn.RemoteAddr().String()})
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// maxAddrs bounds how many addresses of a name are tried in one attempt.
const maxAddrs = 4

func (l *leg) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		l.pass(Step{Name: StepDNS, State: StepSkipped, Detail: "the enrolment URL holds an address"})
		return []netip.Addr{a}, nil
	}
	l.begin(StepDNS)
	lookup := l.client.Resolve
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, l.client.timeout())
	defer cancel()
	addrs, err := lookup(ctx, host)
	switch {
	case err != nil && Classify(err) != CauseNoRoute:
		return nil, &causeError{CauseDNS, fmt.Errorf("resolve %s: %w", host, err)}
	case err != nil:
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	case len(addrs) == 0:
		return nil, &causeError{CauseDNS, fmt.Errorf("resolve %s: the name has no address", host)}
	}
	l.pass(Step{Name: StepDNS, State: StepPassed, Detail: fmt.Sprintf("%s is %s", host, addrs[0].Unmap())})
	return addrs[:min(len(addrs), maxAddrs)], nil
}

// connect makes one connection.
func (l *leg) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.client.timeout())
	defer cancel()
	if l.client.Dial != nil && !l.small {
		return l.client.Dial(ctx, network, addr)
	}
	d := &net.Dialer{}
	if l.small {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var bad error
			err := c.Control(func(fd uintptr) {
				bad = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, smallSegment)
			})
			return errors.Join(err, bad)
		}
	}
	return d.DialContext(ctx, network, addr)
}

// lookForPortal asks the controller's host for plain HTTP when its port was out
// of reach: a redirection elsewhere, or "network authentication required"
// (RFC 6585), is a captive portal's word.
func (w *walk) lookForPortal(ctx context.Context, host string, err error) error {
	cause := Classify(err)
	if w.last != StepTCP || (cause != CauseTimeout && cause != CauseConnectionRefused && cause != CauseConnectionLost) {
		return err
	}
	quiet := &leg{client: Client{Dial: w.client.Dial, Resolve: w.client.Resolve, Timeout: w.client.timeout() / 2}}
	transport := &http.Transport{DialContext: quiet.dial, DisableKeepAlives: true}
	client := &http.Client{
		Transport: transport, Timeout: w.client.timeout(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, bad := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "http", Host: hostURL(host), Path: "/"}).String(), nil)
	if bad != nil {
		return err
	}
	resp, bad := client.Do(req)
	if bad != nil {
		return err
	}
	defer resp.Body.Close()
	to, _ := resp.Location() //nolint:errcheck // none: no redirection
	switch {
	case to != nil && to.Hostname() != host:
		return &causeError{CauseCaptivePortal, fmt.Errorf("plain HTTP to %s is sent to %s: sign in there, or have the port freed of it: %w", host, to.Host, err)}
	case resp.StatusCode == http.StatusNetworkAuthenticationRequired:
		return &causeError{CauseCaptivePortal, fmt.Errorf("the network at this port asks for a sign-in: %w", err)}
	}
	return err
}

// hostURL writes an IPv6 address as a URL wants it.
func hostURL(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "[" + host + "]"
	}
	return host
}

// lazy is a request's body that is made when the first byte is wanted, that is
// when the connection stands: it can tell how that went.
type lazy struct {
	make func() any
	text *bytes.Reader
}

// Read implements [io.Reader].
func (l *lazy) Read(p []byte) (int, error) {
	if l.text == nil {
		text, err := json.Marshal(l.make())
		if err != nil {
			return 0, err
		}
		l.text = bytes.NewReader(text)
	}
	return l.text.Read(p)
}

// ask makes one request and reads its answer.
func ask(ctx context.Context, client *http.Client, to string, body io.Reader) (r Response, wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, body)
	if err != nil {
		return Response{}, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return Response{}, 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil {
		return Response{}, 0, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, &r); err != nil {
			return Response{}, 0, fmt.Errorf("read the answer: %w", err)
		}
		return r, 0, nil
	}
	var said Error
	if json.Unmarshal(text, &said) != nil || said.Message == "" {
		said = Error{Message: resp.Status, Reason: "unknown"}
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
		if s, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s"); err == nil {
			wait = min(s, time.Minute)
		}
		return Response{}, wait, fmt.Errorf("%w: %s", errBusy, said.Message)
	}
	return Response{}, 0, &RefusedError{Status: resp.StatusCode, Body: said}
}
