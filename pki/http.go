package pki

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/signer"
	"golang.org/x/crypto/ssh"
)

// EnrolHandler serves the enrolment listener: POST /v1/enrol.
func (p *PKI) EnrolHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+enrol.EnrolPath, func(w http.ResponseWriter, r *http.Request) {
		c, hostKey, err := p.serveEnrol(r)
		p.answer(w, r, c, hostKey, err)
	})
	mux.HandleFunc("POST "+enrol.TimePath, p.timeFor(EnrolListener))
	mux.HandleFunc("GET /root.pem", p.serveRoot) // for a device that was given its fingerprint
	return mux
}

func (p *PKI) serveEnrol(r *http.Request) (c Certificate, hostKey string, err error) {
	ctx, from := r.Context(), addressKey(r.RemoteAddr)
	limited := func(err error) error {
		return p.refuse(ctx, &Refusal{Listener: EnrolListener, Reason: RateLimited, Remote: r.RemoteAddr, Err: err})
	}
	// Only failures count against an address: a whole city may enrol from
	// behind one carrier's translation.
	if !p.failures.ready(from) {
		return Certificate{}, "", limited(errors.New("too many refused requests from this address; wait a minute"))
	}
	if !p.enrolRate.Allow() {
		return Certificate{}, "", limited(errors.New("too many enrolments at once; try again"))
	}
	q, err := enrol.DecodeRequest(r.Body)
	if err != nil {
		err = p.refuse(ctx, &Refusal{Listener: EnrolListener, Reason: Malformed, Remote: r.RemoteAddr, Err: err})
		p.failures.take(from)
		return Certificate{}, "", err
	}
	c, err = p.Enrol(ctx, r.RemoteAddr, q)
	var refused *Refusal
	if errors.As(err, &refused) {
		p.failures.take(from)
	}
	return c, q.SSHHostKey, err
}

// CAHandler serves the CA listener: renewal for devices that show their
// certificate in TLS or sign their request with its key, and the root.
func (p *PKI) CAHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+enrol.RenewPath, func(w http.ResponseWriter, r *http.Request) {
		c, hostKey, err := p.serveRenew(r)
		p.answer(w, r, c, hostKey, err)
	})
	mux.HandleFunc("POST "+enrol.TimePath, p.timeFor(CAListener))
	mux.HandleFunc("POST "+enrol.RenewSignedPath, func(w http.ResponseWriter, r *http.Request) {
		c, hostKey, err := p.serveSigned(r)
		p.answer(w, r, c, hostKey, err)
	})
	mux.HandleFunc("GET /root.pem", p.serveRoot)
	return mux
}

func (p *PKI) serveRenew(r *http.Request) (c Certificate, hostKey string, err error) {
	if r.TLS == nil {
		return Certificate{}, "", errors.New("the CA API was reached without TLS")
	}
	cur, err := p.identify(CAListener, r.RemoteAddr, *r.TLS)
	if err != nil {
		return Certificate{}, "", err
	}
	q, err := enrol.DecodeRenewRequest(r.Body)
	if err != nil {
		return Certificate{}, "", p.refuse(r.Context(), &Refusal{Listener: CAListener, Reason: Malformed, Remote: r.RemoteAddr, Device: inventory.DeviceID(cur.Name), Err: err})
	}
	c, err = p.Renew(r.Context(), r.RemoteAddr, cur, q)
	return c, q.SSHHostKey, err
}

// StatusHandler serves what everybody may read, over plain HTTP: the root and
// one CRL per issuer. Each is signed; TLS would add a circle.
func (p *PKI) StatusHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /root.pem", p.serveRoot)
	mux.HandleFunc("GET /issuers.pem", func(w http.ResponseWriter, _ *http.Request) {
		var text []byte
		for _, g := range p.issuers.Load().list {
			text = append(text, certPEM(g.cert)...)
		}
		w.Header().Set("Content-Type", "application/x-pem-file")
		w.Write(text) //nolint:errcheck // the client is gone
	})
	mux.HandleFunc("GET /crl/{file}", func(w http.ResponseWriter, r *http.Request) {
		key, ok := strings.CutSuffix(r.PathValue("file"), ".crl")
		set := p.issuers.Load()
		if g := set.active[Issuer(key)]; g != nil {
			key = g.KeyID
		}
		switch {
		case ok && key == string(signer.Root):
			p.serveCRL(w, r, key, p.RootCRL)
			return
		case ok && set.byKey[key] != nil:
			p.serveCRL(w, r, key, func(ctx context.Context) ([]byte, error) { return p.CRLOf(ctx, key) })
			return
		}
		http.NotFound(w, r)
	})
	return mux
}

func (p *PKI) serveCRL(w http.ResponseWriter, r *http.Request, issuer string, list func(context.Context) ([]byte, error)) {
	der, err := list(r.Context())
	if errors.Is(err, signer.ErrCeremony) {
		http.Error(w, "the root has signed no revocation list yet; its key is not on this machine", http.StatusNotFound)
		return
	}
	if err != nil {
		p.deps.Log.ErrorContext(r.Context(), "CRL not served", "issuer", issuer, "err", err)
		http.Error(w, "the revocation list cannot be made now; try again", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	w.Write(der) //nolint:errcheck // the client is gone
}

func (p *PKI) serveRoot(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(p.root) //nolint:errcheck // the client is gone
}

// answer gives a certificate with what goes with it, or says why not.
func (p *PKI) answer(w http.ResponseWriter, r *http.Request, c Certificate, hostKey string, err error) {
	var resp enrol.Response
	if err == nil {
		resp, err = p.response(c)
	}
	if err == nil && hostKey != "" {
		resp.SSHHostCertificate = p.hostCertificate(r.Context(), c, hostKey)
		resp.SSHUserCA = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p.SSHUserCA())))
	}
	p.reply(w, r, resp, err)
}

// reply is the one place where an outcome becomes a status. The text of an
// unknown error goes to the log, never to the caller.
func (p *PKI) reply(w http.ResponseWriter, r *http.Request, body any, err error) {
	status, after := http.StatusOK, ""
	var refused *Refusal
	var waits *waiting
	switch {
	case err == nil:
	case errors.As(err, &refused):
		status = http.StatusForbidden
		switch refused.Reason {
		case Malformed, BadCSR:
			status = http.StatusBadRequest
		case RateLimited:
			status, after = http.StatusTooManyRequests, "2"
		}
		body = enrol.Error{Message: refused.Err.Error(), Reason: string(refused.Reason)}
	case errors.As(err, &waits):
		status, after = http.StatusServiceUnavailable, "5"
		body = enrol.Error{Message: waits.Error(), Reason: enrol.AwaitingConfirmation}
	case errors.Is(err, errTooMany):
		status, after = http.StatusTooManyRequests, "1"
		body = enrol.Error{Message: "many devices renew at once; try again", Reason: "busy"}
	default:
		if !errors.Is(err, context.Canceled) {
			p.deps.Log.ErrorContext(r.Context(), "certificate request failed", "path", r.Pattern, "remote", r.RemoteAddr, "err", err)
		}
		status, after = http.StatusServiceUnavailable, "1"
		body = enrol.Error{Message: "the controller cannot issue certificates now; try again", Reason: "unavailable"}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if after != "" {
		w.Header().Set("Retry-After", after)
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) //nolint:errcheck // the client is gone
}
