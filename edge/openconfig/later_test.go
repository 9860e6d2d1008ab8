package openconfig

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/labs/gnmibox"
)

// A device may be down when the controller starts, and come back as another.
func TestLater(t *testing.T) {
	t.Parallel()
	for _, commit := range []bool{true, false} {
		d := newDevice(t, gnmibox.Habits{Commit: commit, Lacks: []string{"acl"}, Tells: true})
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		creds := d.serveOn(t, &shy{Listener: ln})
		conn, err := Dial(ln.Addr().String(), creds, nil, Quirks{})
		must(t, err)
		t.Cleanup(func() { must(t, conn.Close()) })
		l, err := OpenLater(conn, Config{Timeout: 5 * time.Second})
		must(t, err)
		var box interface {
			foreign.Box
			foreign.Confirmer
			foreign.Emulator
		} = l
		if box.Emulated() || len(box.Holds()) != 6 {
			t.Errorf("before it was seen: emulated %t, holds %v", box.Emulated(), box.Holds())
		}
		none, c := edge.Config{Device: "e-1"}, writable()
		if _, err := box.Read(t.Context(), none); !errors.Is(err, edge.ErrUnreachable) {
			t.Errorf("%v, want ErrUnreachable", err)
		}
		conn.ResetConnectBackoff()
		for end := time.Now().Add(10 * time.Second); ; {
			if _, err = box.Read(t.Context(), none); err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
			conn.ResetConnectBackoff()
		}
		if box.Emulated() == commit || len(box.Holds()) != 5 {
			t.Errorf("emulated %t, holds %v", box.Emulated(), box.Holds())
		}
		err = box.Try(t.Context(), "c-1", none, c, time.Minute)
		if !commit {
			if !errors.Is(err, foreign.ErrEmulate) || !errors.Is(box.Keep(t.Context(), "c-1"), foreign.ErrEmulate) || !errors.Is(box.Cancel(t.Context(), "c-1"), foreign.ErrEmulate) {
				t.Errorf("%v, want ErrEmulate", err)
			}
			err = box.Write(t.Context(), none, c)
		} else {
			must(t, err)
			err = box.Keep(t.Context(), "c-1")
		}
		must(t, err)
		(&rig{d, box}).holds(t, c)
		if s, err := box.Tunnels(t.Context(), c); err != nil || len(s) != 2 {
			t.Errorf("tunnels %v, %v", s, err)
		}
		// It reboots with other software.
		d.Down(true)
		if _, err := box.Read(t.Context(), c); !errors.Is(err, edge.ErrUnreachable) {
			t.Errorf("%v, want ErrUnreachable", err)
		}
		d.Change(func(h *gnmibox.Habits) { h.NoGet = true })
		d.Down(false)
		(&rig{d, box}).holds(t, c)
	}
	if _, err := OpenLater(nil, Config{Quirks: Quirks{Read: "slowly"}}); err == nil {
		t.Error("took a quirk that there is not")
	}
}

// shy drops the first connection.
type shy struct {
	net.Listener
	met bool
}

func (s *shy) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil && !s.met {
		s.met = true
		c.Close()
	}
	return c, err
}
