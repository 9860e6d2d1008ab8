package ocsp

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// maxRequest bounds a request; 16 questions fit.
const maxRequest = 8 << 10

// contentType of an answer (RFC 6960 appendix C).
const contentType = "application/ocsp-response"

// Handler answers POST path, and GET path/{base64 of the request} (RFC 6960
// appendix A.1); other paths go to next. It is no ServeMux: that one takes two
// slashes of base64 for a mistake.
func (r *Responder) Handler(path string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		text, below := strings.CutPrefix(q.URL.EscapedPath(), path+"/")
		var der []byte
		switch {
		case q.Method == http.MethodPost && (q.URL.Path == path || below && text == ""):
			der, _ = io.ReadAll(http.MaxBytesReader(w, q.Body, maxRequest)) // what is cut off is malformed
		case q.Method == http.MethodGet && below && text != "" && len(text) <= 2*maxRequest:
			if plain, err := url.PathUnescape(text); err == nil {
				der, _ = base64.StdEncoding.DecodeString(plain) // what is wrong is malformed
			}
		default:
			next.ServeHTTP(w, q)
			return
		}
		r.serve(w, q, der)
	})
}

func (r *Responder) serve(w http.ResponseWriter, q *http.Request, der []byte) {
	now := time.Now()
	answer, until := r.Answer(q.Context(), der, now)
	h := w.Header()
	h.Set("Content-Type", contentType)
	if q.Method == http.MethodGet && until.After(now) { // RFC 5019 §6.2
		sum := sha256.Sum256(answer)
		h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
		h.Set("Expires", until.UTC().Format(http.TimeFormat))
		h.Set("Cache-Control", fmt.Sprintf("max-age=%d, public, no-transform, must-revalidate", int(until.Sub(now).Seconds())))
	} else {
		h.Set("Cache-Control", "no-store")
	}
	w.Write(answer) //nolint:errcheck // the client is gone
}

// String names the state for metrics.
func (s State) String() string {
	switch s {
	case Good:
		return "good"
	case Revoked:
		return "revoked"
	}
	return "unknown"
}

type metrics struct {
	answers *prometheus.CounterVec
	signing prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		answers: f.NewCounterVec(prometheus.CounterOpts{Name: "pki_ocsp_answers_total", Help: "OCSP answers, by outcome; kept is one that was signed before."}, []string{"outcome"}),
		signing: f.NewHistogram(prometheus.HistogramOpts{Name: "pki_ocsp_signing_duration_seconds", Help: "Time to sign one OCSP answer.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 12)}),
	}
	for _, o := range []string{"good", "revoked", "unknown", "kept", "malformed", "unauthorized", "failed"} {
		m.answers.WithLabelValues(o)
	}
	return m
}
