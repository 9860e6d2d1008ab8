package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/pki/enrol"
)

// partDClients are the CA's faces towards services, used by the clients that
// others wrote.
var partDClients = []check{
	{"step-cli", "step v0.30.2 unmodified: bootstrap, certificate by token, renew, rekey, revoke; a registrar's tokens", stepClient},
	{"acme-certbot", "Debian's certbot unmodified: http-01, renewal, revocation", acmeClient("certbot")},
	{"acme-lego", "Debian's lego unmodified: http-01, renewal, revocation", acmeClient("lego")},
	{"openssl", "CRL and OCSP agree about leaves of a device and of a service, before and within 5 s after their revocation", opensslAgrees},
	{"issuing-traps", "each trap of the library, on our store and through our listeners", labTests("./pki/stepca ./pki/ocsp", ".")},
	{"issuing-store", "nonces, orders, external keys and service tokens count once, on SQLite and PostgreSQL", labTests("./internal/store", "ACME|ServiceRenewal|SignedToken")},
	{"tokens-once", "1,000 tokens, 16 presentations at once by 2 processes, on SQLite and PostgreSQL: 1,000 certificates", func(ctx context.Context, e *env) (string, error) {
		return e.tests(ctx, "TestThousandTokens", "./internal/store", "-timeout=30m", "-tokens=1000")
	}},
}

// stepVersion is the release of step and step-ca that we are compatible with.
const stepVersion = "v0.30.2"

// peer builds a program of smallstep by version, once for all checks.
func (e *env) peer(ctx context.Context, name string) (string, error) {
	pkg := map[string]string{"step": "github.com/smallstep/cli/cmd/step", "step-ca": "github.com/smallstep/certificates/cmd/step-ca"}[name]
	dir := filepath.Join(e.root, "bin", "peers")
	path := filepath.Join(dir, name+"-"+stepVersion)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	cmd := exec.CommandContext(ctx, "go", "install", pkg+"@"+stepVersion)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOBIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s %s: %w: %s", name, stepVersion, err, tail(string(out), 1000))
	}
	return path, os.Rename(filepath.Join(dir, name), path)
}

// station is a place where somebody works with the CA: a controller, a
// directory, and programs that know of no other CA than this one.
type station struct {
	*siege
	env  *env
	home string
	ca   client.CA
	said strings.Builder // transcript
}

func newStation(ctx context.Context, e *env, conf string) (*station, error) {
	s, err := newSiegeWith(ctx, e, conf)
	if err != nil {
		return nil, err
	}
	st := &station{siege: s, env: e, home: filepath.Join(s.dir, "home")}
	if err := os.MkdirAll(st.home, 0o700); err != nil {
		s.close()
		return nil, err
	}
	if st.ca, err = s.auditor.CA(ctx); err != nil {
		s.close()
		return nil, err
	}
	return st, nil
}

// run runs a program in the station's home and keeps what it said.
func (s *station) run(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = s.home
	cmd.Env = append(os.Environ(), "HOME="+s.home, "STEPPATH="+filepath.Join(s.home, ".step"), "REQUESTS_CA_BUNDLE="+s.file("root.pem"), "LEGO_CA_CERTIFICATES="+s.file("root.pem"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	shown := append([]string{filepath.Base(argv[0])}, argv[1:]...)
	for i, a := range shown {
		if i > 0 && shown[i-1] == "--token" {
			shown[i] = "eyJ…"
		} else {
			shown[i] = strings.ReplaceAll(strings.ReplaceAll(a, s.home+"/", ""), s.home, ".")
		}
	}
	fmt.Fprintf(&s.said, "$ %s\n%s", strings.Join(shown, " "), out.String())
	return out.String(), err
}

func (s *station) file(name string) string { return filepath.Join(s.home, name) }

// must runs programs one after the other until one fails.
func (s *station) must(ctx context.Context, lines ...[]string) error {
	for _, argv := range lines {
		if out, err := s.run(ctx, argv...); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv[:min(4, len(argv))], " "), err, tail(out, 1000))
		}
	}
	return nil
}

// refused runs a program that must fail with one clear sentence.
func (s *station) refused(ctx context.Context, argv ...string) error {
	out, err := s.run(ctx, argv...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return fmt.Errorf("%s was granted: %s", strings.Join(argv[:min(4, len(argv))], " "), tail(out, 500))
	case !errors.As(err, &exit):
		return err
	case strings.Contains(out, "panic") || strings.Contains(out, "goroutine"):
		return fmt.Errorf("%s: %s", argv[0], tail(out, 500))
	}
	return nil
}

// leaf reads the first certificate of a file.
func (s *station) leaf(name string) (*x509.Certificate, error) {
	raw, err := os.ReadFile(s.file(name))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", name)
	}
	return x509.ParseCertificate(block.Bytes)
}

// transcript keeps what was said beside the results.
func (s *station) transcript(name string) error {
	dir := filepath.Join(s.env.root, "bin", "transcripts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".txt"), []byte(s.said.String()), 0o644)
}

// stepClient goes through smallstep's documentation with its own program.
func stepClient(ctx context.Context, e *env) (string, error) {
	step, err := e.peer(ctx, "step")
	if err != nil {
		return "", err
	}
	s, err := newStation(ctx, e, "")
	if err != nil {
		return "", err
	}
	defer s.close()
	token := func(n client.NewServiceToken) string {
		t, terr := s.security.ServiceToken(ctx, n)
		err = errors.Join(err, terr)
		return t.Token
	}
	name := "app.hcmc.example"
	first := token(client.NewServiceToken{Name: name, Names: []string{name, "10.1.2.3"}})
	pep := token(client.NewServiceToken{Name: "pep9"})
	registrar := token(client.NewServiceToken{Name: "deploy", Registrar: true})
	if err != nil {
		return "", err
	}
	start := time.Now()
	if err := s.must(
		ctx,
		[]string{step, "ca", "bootstrap", "--ca-url", s.ca.URL, "--fingerprint", s.ca.Fingerprint},
		[]string{step, "ca", "health"},
		[]string{step, "ca", "roots", s.file("roots.pem")},
		[]string{step, "ca", "provisioner", "list"},
		[]string{step, "ca", "certificate", name, s.file("app.crt"), s.file("app.key"), "--token", first},
		[]string{step, "certificate", "verify", s.file("app.crt"), "--roots", s.file("roots.pem")},
		[]string{step, "ca", "renew", "--force", s.file("app.crt"), s.file("app.key")},
		[]string{step, "ca", "renew", "--force", "--mtls=false", s.file("app.crt"), s.file("app.key")},
		[]string{step, "ca", "rekey", "--force", s.file("app.crt"), s.file("app.key")},
		[]string{step, "certificate", "inspect", "--short", s.file("app.crt")},
		[]string{step, "ca", "certificate", "pep9", s.file("pep.crt"), s.file("pep.key"), "--token", pep, "--not-after", "48h"},
		[]string{step, "ca", "certificate", "deploy", s.file("reg.crt"), s.file("reg.key"), "--token", registrar},
		[]string{step, "ca", "certificate", "web.hcmc.example", s.file("web.crt"), s.file("web.key"), "--provisioner", "registrar", "--x5c-cert", s.file("reg.crt"), "--x5c-key", s.file("reg.key")},
		[]string{step, "crypto", "keypair", s.file("csr.pub"), s.file("csr.key"), "--no-password", "--insecure"},
	); err != nil {
		return "", err
	}
	leaf, err := s.leaf("app.crt")
	if err != nil {
		return "", err
	}
	if len(leaf.DNSNames) != 1 || len(leaf.IPAddresses) != 1 || len(leaf.OCSPServer) != 1 {
		return "", fmt.Errorf("after renewals the certificate names %v %v, OCSP %v", leaf.DNSNames, leaf.IPAddresses, leaf.OCSPServer)
	}
	if err := s.asPEP(ctx, "pep.crt", "pep.key"); err != nil {
		return "", fmt.Errorf("the PEP's certificate by step: %w", err)
	}
	refusals := [][]string{
		{step, "ca", "certificate", name, s.file("x.crt"), s.file("x.key"), "--token", first},                                                                                             // used
		{step, "ca", "certificate", "more.hcmc.example", s.file("x.crt"), s.file("x.key"), "--token", token(client.NewServiceToken{Name: name})},                                          // another name
		{step, "ca", "certificate", "web2.hcmc.example", s.file("x.crt"), s.file("x.key"), "--provisioner", "registrar", "--x5c-cert", s.file("web.crt"), "--x5c-key", s.file("web.key")}, // no registrar
		{step, "ca", "certificate", name, s.file("x.crt"), s.file("x.key"), "--token", token(client.NewServiceToken{Name: name}), "--not-after", "8760h"},                                 // too long
	}
	if err != nil {
		return "", err
	}
	if err := s.must(ctx, []string{step, "ca", "revoke", "--cert", s.file("app.crt"), "--key", s.file("app.key"), "--reasonCode", "keyCompromise", "--reason", "key lost"}); err != nil {
		return "", err
	}
	refusals = append(refusals, []string{step, "ca", "renew", "--force", s.file("app.crt"), s.file("app.key")}, []string{step, "ca", "renew", "--force", "--mtls=false", s.file("app.crt"), s.file("app.key")})
	for _, argv := range refusals {
		if err := s.refused(ctx, argv...); err != nil {
			return "", err
		}
	}
	if err := s.transcript("step"); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: 15 commands done, %d refused as they must be, %.1f s", stepVersion, len(refusals), time.Since(start).Seconds()), nil
}

// asPEP asks for a decision with a certificate from the station.
func (s *station) asPEP(ctx context.Context, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(s.file(cert), s.file(key))
	if err != nil {
		return err
	}
	return s.ask(ctx, s.elsewhere().http(s.show(&pair)))
}

// acmeClient gets, renews and revokes a certificate with a client of Debian's.
func acmeClient(program string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		path, err := exec.LookPath(program)
		if err != nil {
			return "", fmt.Errorf("%w: %s is not installed; run scripts/deps.sh", errNotRun, program)
		}
		port, err := freePort()
		if err != nil {
			return "", err
		}
		resolver, stop, err := loopbackDNS()
		if err != nil {
			return "", err
		}
		defer stop()
		s, err := newStation(ctx, e, fmt.Sprintf("acme:\n  allow: [\"*.hcmc.example\"]\n  networks: [127.0.0.0/8]\n  resolver: %q\n  http_port: %d\n", resolver, port))
		if err != nil {
			return "", err
		}
		defer s.close()
		if err := os.WriteFile(s.file("root.pem"), s.root, 0o600); err != nil {
			return "", err
		}
		name, evil := "app.hcmc.example", "evil.example"
		var issue func(name string) []string
		var renew, revoke []string
		var crt string
		switch program {
		case "certbot":
			base := []string{path, "--non-interactive", "--config-dir", s.file("etc"), "--work-dir", s.file("work"), "--logs-dir", s.file("logs"), "--server", s.ca.ACMEDirectory}
			issue = func(name string) []string {
				return append(append([]string{}, base...), "certonly", "--standalone", "--agree-tos", "--email", "an@hcmc.example", "--no-eff-email", "--http-01-port", fmt.Sprint(port), "-d", name)
			}
			renew = append(append([]string{}, base...), "renew", "--force-renewal", "--no-random-sleep-on-renew")
			revoke = append(append([]string{}, base...), "revoke", "--cert-name", name, "--reason", "keycompromise", "--no-delete-after-revoke")
			crt = filepath.Join("etc", "live", name, "cert.pem")
		case "lego":
			base := func(name string) []string {
				return []string{path, "--server", s.ca.ACMEDirectory, "--path", s.file("lego"), "--accept-tos", "--email", "an@hcmc.example", "--domains", name, "--http", "--http.port", fmt.Sprintf("127.0.0.1:%d", port)}
			}
			issue = func(name string) []string { return append(base(name), "run") }
			renew = append(base(name), "renew", "--days", "90", "--no-random-sleep")
			revoke = append(base(name), "revoke", "--reason", "1")
			crt = filepath.Join("lego", "certificates", name+".crt")
		}
		start := time.Now()
		if err := s.must(ctx, issue(name)); err != nil {
			return "", err
		}
		first, err := s.leaf(crt)
		if err != nil {
			return "", err
		}
		if err := s.must(ctx, renew); err != nil {
			return "", err
		}
		second, err := s.leaf(crt)
		if err != nil {
			return "", err
		}
		if first.SerialNumber.Cmp(second.SerialNumber) == 0 || len(second.DNSNames) != 1 || second.DNSNames[0] != name {
			return "", fmt.Errorf("renewal gave serial %s for %v, before %s", second.SerialNumber, second.DNSNames, first.SerialNumber)
		}
		if err := s.refused(ctx, issue(evil)...); err != nil {
			return "", err
		}
		if err := s.must(ctx, revoke); err != nil {
			return "", err
		}
		list, err := s.auditor.Certificates(ctx)
		if err != nil {
			return "", err
		}
		state := ""
		for _, c := range list {
			if c.Serial == enrol.SerialOf(second) {
				state = c.State
			}
		}
		if state != "revoked" {
			return "", fmt.Errorf("certificate %s is %q after its revocation", enrol.SerialOf(second), state)
		}
		if err := s.transcript(program); err != nil {
			return "", err
		}
		version, _ := s.run(ctx, path, "--version")
		return fmt.Sprintf("%s: issued, renewed, revoked in %.1f s; %s refused", strings.TrimSpace(version), time.Since(start).Seconds(), evil), nil
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// loopbackDNS answers every name with 127.0.0.1.
func loopbackDNS() (addr string, stop func(), err error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if n := q.Question[0]; n.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: n.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = w.WriteMsg(m) // the asker is gone
	})}
	go func() { _ = srv.ActivateAndServe() }()
	return conn.LocalAddr().String(), func() { _ = srv.Shutdown() }, nil
}
