package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// partDLoad is how much certificates cost.
var partDLoad = []check{
	{"step-ca-bad-input", "each check that step-ca makes of a request, by one set against a real one and ours", badInputBoth},
	{"step-ca-side-by-side", "enrolment and renewal at most 1/3 of step-ca's processor time per certificate; the step API not slower", sideBySide},
	{"fleet-3321", "3,321 devices enrolled under 120 s", fleetEnrolment},
}

// contender is one server under the same client.
type contender struct {
	name string
	pid  int
	one  func(ctx context.Context, i int) error // the i-th certificate
	idle float64                                // seconds of processor time in a second without requests
}

// measured is what certificates of one side cost.
type measured struct {
	took  time.Duration
	cpu   float64 // seconds of the server's processes
	times []time.Duration
	idle  float64 // taken off cpu, seconds in a second
}

func (m *measured) add(o measured) {
	m.took, m.cpu, m.times = m.took+o.took, m.cpu+o.cpu, append(m.times, o.times...)
}

func (m measured) perCert() float64 { return 1000 * m.cpu / float64(len(m.times)) }

func (m measured) rate() float64 { return float64(len(m.times)) / m.took.Seconds() }

func (m measured) String() string {
	slices.Sort(m.times)
	n := len(m.times)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("%.0f/s, p50 %.1f ms, p99 %.1f ms, %.2f ms CPU each (over %.0f ms/s at rest)", m.rate(), ms(m.times[n/2]), ms(m.times[n*99/100]), m.perCert(), 1000*m.idle)
}

// round asks one side for the certificates first to first+n by some workers.
func (s contender) round(ctx context.Context, first, n, workers int) (measured, error) {
	m := measured{times: make([]time.Duration, n)}
	before, err := processorTime(s.pid)
	if err != nil {
		return m, err
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || errs[w] != nil {
					return
				}
				at := time.Now()
				errs[w] = s.one(ctx, first+i)
				m.times[i] = time.Since(at)
			}
		})
	}
	wg.Wait()
	m.took = time.Since(start)
	after, err := processorTime(s.pid)
	if err := errors.Join(append(errs, err)...); err != nil {
		return m, fmt.Errorf("%s: %w", s.name, err)
	}
	m.cpu = after - before - s.idle*m.took.Seconds()
	return m, nil
}

// resting measures what the server takes without requests: ours watches 1,600
// devices meanwhile. It is taken off what certificates cost.
func (s *contender) resting(ctx context.Context) error {
	const long = 5 * time.Second
	before, err := processorTime(s.pid)
	if err != nil {
		return err
	}
	select {
	case <-time.After(long):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := processorTime(s.pid)
	s.idle = (after - before) / long.Seconds()
	return err
}

// alternate runs rounds A, B, A, B, … so that a slow minute of the machine hits
// both.
func alternate(ctx context.Context, a, b contender, rounds, n, workers int) (ma, mb measured, err error) {
	if err := errors.Join(a.resting(ctx), b.resting(ctx)); err != nil {
		return ma, mb, err
	}
	ma.idle, mb.idle = a.idle, b.idle
	for i := range rounds {
		for _, x := range []struct {
			contender
			into *measured
		}{{a, &ma}, {b, &mb}} {
			m, err := x.round(ctx, i*n, n, workers)
			if err != nil {
				return ma, mb, err
			}
			x.into.add(m)
		}
	}
	return ma, mb, nil
}

// processorTime is what a process and its children have used, in seconds.
func processorTime(pid int) (float64, error) {
	total, found := 0.0, false
	entries, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, file := range entries {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		text := string(raw)
		own, err := strconv.Atoi(strings.Fields(text)[0])
		f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // the name may hold spaces
		if err != nil || len(f) < 13 || own != pid && f[1] != strconv.Itoa(pid) {
			continue
		}
		found = found || own == pid
		for _, ticks := range f[11:13] { // utime, stime
			n, err := strconv.ParseFloat(ticks, 64)
			if err != nil {
				return 0, err
			}
			total += n / 100
		}
	}
	if !found {
		return 0, fmt.Errorf("process %d is gone", pid)
	}
	return total, nil
}

// enrolled is a device with its papers.
type enrolled struct {
	inventory.Device
	token string
	key   *ecdsa.PrivateKey
	csr   string
	wg    string
	pair  *tls.Certificate
}

// bench is a controller with a nation's devices, and a real step-ca.
type bench struct {
	*scaled
	peer    *stepCA
	devices []*enrolled
	open    *http.Client // to ours, without a certificate
}

func newBench(ctx context.Context, e *env, devices int) (*bench, error) {
	inv, err := nation(devices)
	if err != nil {
		return nil, err
	}
	s, err := startScaled(ctx, e, "certificates", "", inv)
	if err != nil {
		return nil, err
	}
	b := &bench{scaled: s, open: keepAlive(s.pool)}
	s.pool.AppendCertsFromPEM(s.root)
	for _, d := range inv.Devices {
		b.devices = append(b.devices, &enrolled{Device: d})
	}
	return b, nil
}

func keepAlive(pool *x509.CertPool) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, MaxIdleConnsPerHost: 64, ForceAttemptHTTP2: false}}
}

// prepare makes keys, CSRs and tokens of some devices; nobody measures it.
func (b *bench) prepare(ctx context.Context, list []*enrolled) error {
	ids := make([]inventory.DeviceID, len(list))
	by := map[inventory.DeviceID]*enrolled{}
	for i, d := range list {
		ids[i], by[d.ID] = d.ID, d
	}
	out, err := b.engineer.Enrol(ctx, ids...)
	if err != nil {
		return err
	}
	for _, t := range out.Tokens {
		by[t.Device].token = t.Token
	}
	for _, d := range list {
		if err := b.anew(d); err != nil {
			return err
		}
	}
	return nil
}

// anew gives a device the keys of its next certificate.
func (b *bench) anew(d *enrolled) (err error) {
	root, err := enrol.TrustDomain(b.root)
	if err != nil {
		return err
	}
	id, err := enrol.SPIFFEID(root, enrol.DeviceKind, string(d.ID))
	if err != nil {
		return err
	}
	d.key, d.wg = newKey(elliptic.P256()), wireGuardKey()
	d.csr, err = enrol.NewCSR(d.key, id)
	return err
}

// enrol is one device's enrolment at 9445.
func (b *bench) enrol(ctx context.Context, d *enrolled) error {
	return b.ask(ctx, b.open, "https://"+b.serving.Enrol+enrol.EnrolPath, d, enrol.Request{Token: d.token, Serial: d.Serial, CSR: d.csr, WireGuardPublicKey: d.wg})
}

// renew is one device's renewal at 9444, on a connection of its own.
func (b *bench) renew(ctx context.Context, d *enrolled) error {
	return b.ask(ctx, b.as(d), "https://"+b.serving.CA+enrol.RenewPath, d, enrol.RenewRequest{CSR: d.csr, WireGuardPublicKey: d.wg})
}

func (b *bench) as(d *enrolled) *http.Client { return oneShot(b.pool, d.pair) }

// oneShot shows a certificate on a new connection each time.
func oneShot(pool *x509.CertPool, pair *tls.Certificate) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{*pair}, MinVersion: tls.VersionTLS13},
	}}
}

func (b *bench) ask(ctx context.Context, c *http.Client, url string, d *enrolled, q any) error {
	var r enrol.Response
	for {
		err := b.post(ctx, c, url, q, &r)
		var refused *enrol.RefusedError
		if errors.As(err, &refused) && refused.Status == http.StatusTooManyRequests {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err != nil {
			return fmt.Errorf("device %s: %w", d.ID, err)
		}
		break
	}
	var err error
	d.pair, err = pairOf(r.Certificate, d.key)
	return err
}

func pairOf(chain string, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	pair := &tls.Certificate{PrivateKey: key}
	for rest := []byte(chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		pair.Certificate = append(pair.Certificate, block.Bytes)
	}
	if len(pair.Certificate) == 0 {
		return nil, errors.New("the answer holds no certificate")
	}
	return pair, nil
}

// fleetEnrolment enrols a nation: what the devices wait for, tokens made before.
func fleetEnrolment(ctx context.Context, e *env) (string, error) {
	b, err := newBench(ctx, e, 3321)
	if err != nil {
		return "", err
	}
	defer b.end()
	if err := b.prepare(ctx, b.devices); err != nil {
		return "", err
	}
	m, err := contender{name: "wardnet", pid: b.serving.PID, one: func(ctx context.Context, i int) error { return b.enrol(ctx, b.devices[i]) }}.round(ctx, 0, len(b.devices), 64)
	if err != nil {
		return "", err
	}
	figure := fmt.Sprintf("%d devices in %.1f s (%s), load %s", len(b.devices), m.took.Seconds(), m, loadAverage())
	if m.took >= 2*time.Minute {
		return figure, fmt.Errorf("not under 120 s: %s", figure)
	}
	return figure, nil
}

// stepRequests are prepared requests of the step API.
type stepRequests struct {
	url   string
	http  *http.Client
	body  []json.RawMessage
	keys  []*ecdsa.PrivateKey
	pairs []*tls.Certificate
}

func prepareStep(t tokens, c *http.Client, first, n int) (*stepRequests, error) {
	r := &stepRequests{url: t.url, http: c, pairs: make([]*tls.Certificate, n)}
	for i := range n {
		name := fmt.Sprintf("s%d.hcmc.example", first+i)
		key := newKey(elliptic.P256())
		csr, err := csrOf(key, name, name)
		if err != nil {
			return nil, err
		}
		token, err := t.with(name, nil)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(map[string]string{"csr": csr, "ott": token})
		if err != nil {
			return nil, err
		}
		r.body, r.keys = append(r.body, body), append(r.keys, key)
	}
	return r, nil
}

func (r *stepRequests) sign(ctx context.Context, i int) error {
	chain, err := stepPost(ctx, r.http, r.url+"/1.0/sign", r.body[i])
	if err != nil {
		return err
	}
	r.pairs[i], err = pairOf(chain, r.keys[i])
	return err
}

// renew shows the certificate on a connection of its own.
func (r *stepRequests) renew(pool *x509.CertPool) func(context.Context, int) error {
	return func(ctx context.Context, i int) error {
		_, err := stepPost(ctx, oneShot(pool, r.pairs[i]), r.url+"/1.0/renew", nil)
		return err
	}
}
