package console

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/wardnet/wardnet/console/client"
)

// A stranger who announces a body and never sends it must not hold the
// connection: the server wants the body before it sends its refusal.
func TestStrangersBodyIsNotWaitedFor(t *testing.T) {
	s := newSite(t, func(c *Config) { c.BodyTimeout = 100 * time.Millisecond })
	for _, path := range []string{Prefix + "/users", Prefix + "/session", Prefix + "/none", "/"} {
		conn, err := tls.Dial("tcp", s.srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%s: the connection is held", path)
		}
	}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// HTTP/2 resets a stream at its write deadline, written to or not.
func TestQuietEventStreamStaysOpen(t *testing.T) {
	s := newSite(t, func(c *Config) { c.SendTimeout, c.Heartbeat = 100*time.Millisecond, 400*time.Millisecond })
	c := s.user("lan", client.RoleNOC)
	tok, err := c.CreateToken(t.Context(), client.NewToken{Name: "t", Scopes: []client.Role{client.RoleNOC}, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.srv.URL+Prefix+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tok.Secret)
	res, err := s.srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Fatalf("the stream speaks %s, want HTTP/2", res.Proto)
	}
	beats := 0
	for lines := bufio.NewScanner(res.Body); beats < 3; {
		if !lines.Scan() {
			t.Fatalf("the stream ended after %d heartbeats: %v", beats, lines.Err())
		}
		if lines.Text() == ": heartbeat" {
			beats++
		}
	}
}

// A write that another site sent leaves a trace.
func TestCrossOriginWriteIsAudited(t *testing.T) {
	s := newSite(t)
	res, _ := s.raw(http.MethodPost, Prefix+"/enrolment", "{}", map[string]string{"Origin": "https://evil.example"})
	if res.StatusCode != http.StatusForbidden {
		t.Fatal(res.Status)
	}
	if e := s.last(1); len(e) != 1 || e[0].What != "cross-origin" || e[0].Outcome != "refused" || e[0].Object != "POST "+Prefix+"/enrolment" || e[0].From == "" {
		t.Errorf("audit entry %+v", e)
	}
}
