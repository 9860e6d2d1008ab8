package stepca_test

import (
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/pki/stepca"
)

// No text passes as a token but the one that was made.
func FuzzToken(f *testing.F) {
	f.Add("eyJhbGciOiJub25lIn0", "e30", "")
	var r *rig
	f.Fuzz(func(t *testing.T, head, body, sig string) {
		if r == nil {
			r = newRig(t)
		}
		text := r.token(stepca.TokenRequest{Name: "app.hcmc.example"})
		p := strings.Split(text, ".")
		for _, forged := range []string{head + "." + body + "." + sig, p[0] + "." + body + "." + p[2], head + "." + p[1] + "." + p[2], p[0] + "." + p[1] + "." + sig, head} {
			if forged == text {
				continue
			}
			if _, err := r.step.Genuine(forged, time.Now()); err == nil {
				t.Errorf("%q passes", forged)
			}
		}
		if _, err := r.step.Genuine(text, time.Now()); err != nil {
			t.Error(err)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"csr":"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n","ott":"x"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(_ *testing.T, body []byte) { _ = stepca.TooCostly(body) })
}
