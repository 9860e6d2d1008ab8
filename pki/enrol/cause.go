package enrol

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Cause says why a step failed; the list is closed.
type Cause string

// Causes that a device finds by itself.
const (
	CauseNoLink            Cause = "no-link"    // no WAN port has a link
	CauseNoAddress         Cause = "no-address" // no DHCP answer, or no address to speak from
	CauseNoRoute           Cause = "no-route"
	CauseDNS               Cause = "dns"
	CauseConnectionRefused Cause = "connection-refused" // the host is there, the port is closed
	CauseConnectionLost    Cause = "connection-lost"    // closed by the other side before the answer
	CauseTimeout           Cause = "timeout"
	CauseMTU               Cause = "mtu" // large packets are lost on the way, small ones arrive
	// CauseCaptivePortal is somebody else answering: plain HTTP where TLS was
	// asked for, a redirection elsewhere, or a certificate of a foreign name.
	CauseCaptivePortal Cause = "captive-portal"
	CauseCAUnknown     Cause = "ca-unknown" // the right name, but not the bundle's CA
	CauseWrongName     Cause = "wrong-name" // our CA, but the bundle's enrol_url is none of the controller's names
	CauseClockSkew     Cause = "clock-skew"
	CauseLocal         Cause = "local" // the device's own disk or keys
)

// Causes that the controller names.
const (
	CauseWrongSerial  Cause = "wrong-serial"
	CauseTokenUsed    Cause = "token-used"
	CauseTokenExpired Cause = "token-expired"
	CauseTokenUnknown Cause = "token-unknown"
	CauseRefused      Cause = "refused" // for another reason, which the detail tells
	CauseBusy         Cause = "busy"    // it asked to try again
	CauseRejected     Cause = "config-rejected"
	CauseUnhealthy    Cause = "unhealthy" // the configuration is in force but does not carry
	CauseOther        Cause = "other"
)

// Causes lists all of them.
var Causes = []Cause{
	CauseNoLink, CauseNoAddress, CauseNoRoute, CauseDNS, CauseConnectionRefused, CauseConnectionLost, CauseTimeout, CauseMTU,
	CauseCaptivePortal, CauseCAUnknown, CauseWrongName, CauseClockSkew, CauseLocal,
	CauseWrongSerial, CauseTokenUsed, CauseTokenExpired, CauseTokenUnknown, CauseRefused, CauseBusy, CauseRejected, CauseUnhealthy, CauseOther,
}

// causeError is an error whose cause is known where it arose.
type causeError struct {
	cause Cause
	err   error
}

func (e *causeError) Error() string { return e.err.Error() }
func (e *causeError) Unwrap() error { return e.err }

// refusals are the causes of the controller's reasons for a refusal.
var refusals = map[string]Cause{
	"wrong-serial": CauseWrongSerial, "used-token": CauseTokenUsed, "expired-token": CauseTokenExpired, "unknown-token": CauseTokenUnknown, "clock": CauseClockSkew,
}

// CauseOfRefusal is the cause of a controller's reason for a refusal.
func CauseOfRefusal(reason string) Cause {
	if c, ok := refusals[reason]; ok {
		return c
	}
	return CauseRefused
}

// Classify gives the cause of an error on the way to a certificate; "" for nil.
func Classify(err error) Cause {
	var known *causeError
	var refused *RefusedError
	var dns *net.DNSError
	var invalid x509.CertificateInvalidError
	var timeout interface{ Timeout() bool }
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return ""
	case errors.As(err, &known):
		return known.cause
	case errors.As(err, &refused):
		return CauseOfRefusal(refused.Body.Reason)
	case is(errBusy):
		return CauseBusy
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return CauseClockSkew
	case asType[x509.HostnameError](err), asType[tls.RecordHeaderError](err), is(http.ErrSchemeMismatch):
		return CauseCaptivePortal
	case is(ErrPin), asType[x509.UnknownAuthorityError](err), asType[x509.CertificateInvalidError](err):
		return CauseCAUnknown
	case is(syscall.EMSGSIZE):
		return CauseMTU
	case is(syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN):
		return CauseNoRoute
	case errors.As(err, &dns):
		// The resolver keeps no more than the text of why it could not ask.
		if strings.Contains(dns.Err, "network is unreachable") || strings.Contains(dns.Err, "no route to host") {
			return CauseNoRoute
		}
		return CauseDNS
	case is(syscall.EADDRNOTAVAIL):
		return CauseNoAddress
	case is(syscall.ECONNREFUSED):
		return CauseConnectionRefused
	case is(context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return CauseTimeout
	case is(io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE):
		return CauseConnectionLost
	}
	return CauseOther
}

func asType[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// judgeServer finds out what is wrong with the certificate of a server that
// was not accepted: it looks at chain, name and time apart, where the
// verification itself ends at the first of them. It never accepts one.
func judgeServer(err error, roots *x509.CertPool, name string, now time.Time) error {
	var bad *tls.CertificateVerificationError
	if !errors.As(err, &bad) || len(bad.UnverifiedCertificates) == 0 {
		return err
	}
	leaf, between := bad.UnverifiedCertificates[0], x509.NewCertPool()
	for _, c := range bad.UnverifiedCertificates[1:] {
		between.AddCert(c)
	}
	middle := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	_, chain := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: middle})
	wrongName := leaf.VerifyHostname(name)
	switch {
	case chain != nil && wrongName != nil:
		return &causeError{CauseCaptivePortal, fmt.Errorf("somebody else answers for %s: %w", name, err)}
	case chain != nil:
		return &causeError{CauseCAUnknown, fmt.Errorf("the server at %s has a certificate of another CA than the bundle's: %w", name, err)}
	case wrongName != nil:
		return &causeError{CauseWrongName, fmt.Errorf("the controller does not call itself %s; add the name to its configuration or correct the bundle's enrol_url: %w", name, err)}
	case now.Before(leaf.NotBefore) || now.After(leaf.NotAfter):
		return &causeError{CauseClockSkew, fmt.Errorf("the device's clock says %s, the controller's certificate is valid from %s to %s; set the clock: %w",
			now.UTC().Format(time.RFC3339), leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), err)}
	}
	return err
}
