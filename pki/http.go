package pki

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// EnrolHandler serves the enrolment listener: POST /v1/enrol.
func (p *PKI) EnrolHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+enrol.EnrolPath, func(w http.ResponseWriter, r *http.Request) {
		c, err := p.serveEnrol(r)
		p.answer(w, r, c, err)
	})
	return mux
}

func (p *PKI) serveEnrol(r *http.Request) (Certificate, error) {
	ctx, from := r.Context(), addressKey(r.RemoteAddr)
	limited := func(err error) error {
		return p.refuse(ctx, &Refusal{Listener: EnrolListener, Reason: RateLimited, Remote: r.RemoteAddr, Err: err})
	}
	// Only failures count against an address: a whole city may enrol from
	// behind one carrier's translation.
	if !p.failures.ready(from) {
		return Certificate{}, limited(errors.New("too many refused requests from this address; wait a minute"))
	}
	if !p.enrolRate.Allow() {
		return Certificate{}, limited(errors.New("too many enrolments at once; try again"))
	}
	q, err := enrol.DecodeRequest(r.Body)
	if err != nil {
		err = p.refuse(ctx, &Refusal{Listener: EnrolListener, Reason: Malformed, Remote: r.RemoteAddr, Err: err})
		p.failures.take(from)
		return Certificate{}, err
	}
	c, err := p.Enrol(ctx, r.RemoteAddr, q)
	var refused *Refusal
	if errors.As(err, &refused) {
		p.failures.take(from)
	}
	return c, err
}

// CAHandler serves the CA listener: renewal for devices that show their
// certificate in TLS, and the root.
func (p *PKI) CAHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+enrol.RenewPath, func(w http.ResponseWriter, r *http.Request) {
		c, err := p.serveRenew(r)
		p.answer(w, r, c, err)
	})
	mux.HandleFunc("GET /root.pem", p.serveRoot)
	return mux
}

func (p *PKI) serveRenew(r *http.Request) (Certificate, error) {
	if r.TLS == nil {
		return Certificate{}, errors.New("the CA API was reached without TLS")
	}
	cur, err := p.identify(CAListener, r.RemoteAddr, *r.TLS)
	if err != nil {
		return Certificate{}, err
	}
	q, err := enrol.DecodeRenewRequest(r.Body)
	if err != nil {
		return Certificate{}, p.refuse(r.Context(), &Refusal{Listener: CAListener, Reason: Malformed, Remote: r.RemoteAddr, Device: inventory.DeviceID(cur.Name), Err: err})
	}
	return p.Renew(r.Context(), r.RemoteAddr, cur, q)
}

// StatusHandler serves what everybody may read, over plain HTTP: the root and
// one CRL per issuer. Each is signed; TLS would add a circle.
func (p *PKI) StatusHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /root.pem", p.serveRoot)
	mux.HandleFunc("GET /issuers.pem", func(w http.ResponseWriter, _ *http.Request) {
		var text []byte
		for _, i := range issuers {
			text = append(text, certPEM(p.cas[i].cert)...)
		}
		w.Header().Set("Content-Type", "application/x-pem-file")
		w.Write(text) //nolint:errcheck // the client is gone
	})
	mux.HandleFunc("GET /crl/{file}", func(w http.ResponseWriter, r *http.Request) {
		key, ok := strings.CutSuffix(r.PathValue("file"), ".crl")
		for _, c := range p.cas {
			if ok && (c.keyID == key || string(c.name) == key) {
				p.serveCRL(w, r, c.name)
				return
			}
		}
		http.NotFound(w, r)
	})
	return mux
}

func (p *PKI) serveCRL(w http.ResponseWriter, r *http.Request, i Issuer) {
	der, err := p.CRL(r.Context(), i)
	if err != nil {
		p.deps.Log.ErrorContext(r.Context(), "CRL not served", "issuer", i, "err", err)
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

// answer is the one place where an outcome becomes a status. The text of an
// unknown error goes to the log, never to the caller.
func (p *PKI) answer(w http.ResponseWriter, r *http.Request, c Certificate, err error) {
	var resp enrol.Response
	if err == nil {
		resp, err = p.response(c)
	}
	var body any = resp
	status := http.StatusOK
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		status = http.StatusForbidden
		switch refused.Reason {
		case Malformed, BadCSR:
			status = http.StatusBadRequest
		case RateLimited:
			status = http.StatusTooManyRequests
			w.Header().Set("Retry-After", "2")
		}
		body = enrol.Error{Message: refused.Err.Error(), Reason: string(refused.Reason)}
	case err != nil:
		if !errors.Is(err, context.Canceled) {
			p.deps.Log.ErrorContext(r.Context(), "certificate request failed", "path", r.Pattern, "remote", r.RemoteAddr, "err", err)
		}
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
		body = enrol.Error{Message: "the controller cannot issue certificates now; try again", Reason: "unavailable"}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) //nolint:errcheck // the client is gone
}
