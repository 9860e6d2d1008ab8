package main

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// stepAnswer is what /1.0/sign, /renew and /rekey give.
type stepAnswer struct {
	Chain   []string `json:"certChain"`
	Message string   `json:"message"`
}

// stepPost sends a request of the step API and gives the PEM chain; another
// status than 201 is an error with what the server said.
func stepPost(ctx context.Context, c *http.Client, url string, body any) (string, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(raw))
	if err != nil {
		return "", err
	}
	q.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(q)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var a stepAnswer
	if err := json.Unmarshal(out, &a); err != nil || resp.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("%s: %s %s", url, resp.Status, tail(string(out), 300))
	}
	return strings.Join(a.Chain, ""), nil
}

// stepService gets a service's certificate by token into name.crt.
func (s *station) stepService(ctx context.Context, name string) (*tls.Certificate, error) {
	t, err := s.security.ServiceToken(ctx, client.NewServiceToken{Name: name})
	if err != nil {
		return nil, err
	}
	key := newKey(elliptic.P256())
	csr, err := csrOf(key, name, name)
	if err != nil {
		return nil, err
	}
	chain, err := stepPost(ctx, s.elsewhere().http(s.show(nil)), s.ca.URL+"/1.0/sign", map[string]string{"csr": csr, "ott": t.Token})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.file(name+".crt"), []byte(chain), 0o600); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair([]byte(chain), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return &pair, err
}

// device enrols one of the city's devices and writes its chain to a file.
func (s *station) device(ctx context.Context, d inventory.Device, file string) error {
	b, err := s.engineer.Enrol(ctx, d.ID)
	if err != nil {
		return err
	}
	id, err := enrol.Enrol(ctx, enrol.Bundle{
		EnrolURL: b.EnrolURL, Channel: b.Channel, CAURL: b.CAURL, RootPEM: b.RootPEM, Device: d.ID, Serial: d.Serial, Token: b.Tokens[0].Token,
	}, filepath.Join(s.home, string(d.ID)))
	if err != nil {
		return err
	}
	held, err := id.TLS().GetClientCertificate(&tls.CertificateRequestInfo{})
	if err != nil {
		return err
	}
	var text []byte
	for _, der := range held.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return os.WriteFile(s.file(file), text, 0o600)
}

// verdict is what OpenSSL says of a leaf: by its CRL and by OCSP.
type verdict struct{ crl, ocsp string }

func (v verdict) both(want string) bool { return v.crl == want && v.ocsp == want }

// openssl asks both about the leaf in file; what is neither "good" nor "revoked"
// is what the program said.
func (s *station) openssl(ctx context.Context, file string) (v verdict, err error) {
	raw, err := os.ReadFile(s.file(file))
	if err != nil {
		return v, err
	}
	leafBlock, rest := pem.Decode(raw)
	issuer, _ := pem.Decode(rest)
	if leafBlock == nil || issuer == nil {
		return v, fmt.Errorf("%s has no leaf and issuer", file)
	}
	leaf, err := x509.ParseCertificate(leafBlock.Bytes)
	if err != nil {
		return v, err
	}
	if len(leaf.CRLDistributionPoints) != 1 || len(leaf.OCSPServer) != 1 {
		return v, fmt.Errorf("%s names CRL %v and OCSP %v", file, leaf.CRLDistributionPoints, leaf.OCSPServer)
	}
	resp, err := http.Get(leaf.CRLDistributionPoints[0])
	if err != nil {
		return v, err
	}
	crl, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return v, err
	}
	for name, block := range map[string]*pem.Block{"o-leaf.pem": leafBlock, "o-issuer.pem": issuer, "o.crl": {Type: "X509 CRL", Bytes: crl}} {
		if err := os.WriteFile(s.file(name), pem.EncodeToMemory(block), 0o600); err != nil {
			return v, err
		}
	}
	if err := os.WriteFile(s.file("root.pem"), s.root, 0o600); err != nil {
		return v, err
	}
	out, err := s.run(ctx, "openssl", "verify", "-crl_check", "-CAfile", s.file("root.pem"), "-untrusted", s.file("o-issuer.pem"), "-CRLfile", s.file("o.crl"), s.file("o-leaf.pem"))
	switch v.crl = strings.TrimSpace(tail(out, 300)); {
	case err == nil && strings.HasSuffix(v.crl, ": OK"):
		v.crl = "good"
	case strings.Contains(out, "certificate revoked"):
		v.crl = "revoked"
	}
	out, err = s.run(ctx, "openssl", "ocsp", "-issuer", s.file("o-issuer.pem"), "-cert", s.file("o-leaf.pem"), "-url", leaf.OCSPServer[0], "-CAfile", s.file("root.pem"), "-verify_other", s.file("o-issuer.pem"))
	v.ocsp = strings.TrimSpace(tail(out, 300))
	if err == nil && strings.Contains(out, "Response verify OK") && !strings.Contains(out, "WARNING") { // a missing nonce warns
		for _, word := range []string{"good", "revoked"} {
			if strings.Contains(out, "o-leaf.pem: "+word) {
				v.ocsp = word
			}
		}
	}
	return v, nil
}

// opensslAgrees asks CRL and OCSP about leaves of two issuers.
func opensslAgrees(ctx context.Context, e *env) (string, error) {
	s, err := newStation(ctx, e, "")
	if err != nil {
		return "", err
	}
	defer s.close()
	if _, err := s.stepService(ctx, "app.hcmc.example"); err != nil {
		return "", err
	}
	if err := s.device(ctx, s.devices[0], "device.crt"); err != nil {
		return "", err
	}
	slowest := time.Duration(0)
	for _, file := range []string{"app.hcmc.example.crt", "device.crt"} {
		v, err := s.openssl(ctx, file)
		if err != nil || !v.both("good") {
			return "", fmt.Errorf("%s before: CRL %q, OCSP %q, %w", file, v.crl, v.ocsp, err)
		}
		leaf, err := s.leaf(file)
		if err != nil {
			return "", err
		}
		start := time.Now()
		if _, err := s.security.Revoke(ctx, enrol.SerialOf(leaf), "key-compromise: accept"); err != nil {
			return "", err
		}
		for {
			if v, err = s.openssl(ctx, file); err != nil {
				return "", err
			}
			took := time.Since(start)
			if v.both("revoked") {
				slowest = max(slowest, took)
				break
			}
			if took > 5*time.Second {
				return "", fmt.Errorf("%s after %.1f s: CRL %q, OCSP %q", file, took.Seconds(), v.crl, v.ocsp)
			}
		}
	}
	if err := s.transcript("openssl"); err != nil {
		return "", err
	}
	return fmt.Sprintf("good before, revoked by CRL and by OCSP (nonce, delegated signer) at most %.2f s after, for a service's and a device's leaf", slowest.Seconds()), nil
}
