//go:build lab

package wireguard

import (
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/wireguard/process"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// A process that hangs is ended and replaced.
func TestHangingProcessIsReplaced(t *testing.T) {
	box, _, _, _ := edgeAndHub(t)
	restarted := make(chan struct{}, 1)
	box.supervise(t, func() { restarted <- struct{}{} })
	p, pid := up(t, box), box.pid(t)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	select {
	case <-restarted:
	case <-time.After(60 * time.Second):
		t.Fatal("the process was not replaced")
	}
	if now := box.pid(t); now == pid {
		t.Errorf("process %d is still the same", pid)
	}
	if !p.answers(10 * time.Second) {
		t.Error("no answer through the tunnel")
	}
}

// A process that speaks another protocol is asked to stop, in words that every
// version understands, and replaced.
func TestAnotherVersionIsReplaced(t *testing.T) {
	box := newBox(t, "edge")
	lis, err := net.Listen("unix", filepath.Join(box.dir, process.Socket))
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	asked := make(chan string, 10)
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			for in := json.NewDecoder(c); ; {
				var req process.Request
				if in.Decode(&req) != nil {
					break
				}
				asked <- req.Op
				_ = json.NewEncoder(c).Encode(process.Reply{Protocol: process.Protocol + 1})
				if req.Op == process.Stop {
					_ = lis.Close()
				}
			}
		}
	}()
	box.apply(t)
	if a, b := <-asked, <-asked; a != process.Hello || b != process.Stop {
		t.Errorf("asked %s and %s", a, b)
	}
	if r, err := box.process.ask(t.Context(), process.Request{Op: process.Hello}); err != nil || r.Protocol != process.Protocol {
		t.Errorf("hello: %+v %v", r, err)
	}
}

func TestWhatCannotRunIsSaid(t *testing.T) {
	box := newBox(t, "edge")
	if _, err := box.State(t.Context()); !errors.Is(err, edge.ErrUnreachable) {
		t.Errorf("state without a process: %v", err)
	}
	box.process.binary = "/bin/false"
	var err error
	box.in(func() { err = box.Apply(t.Context(), "", nil) })
	if !errors.Is(err, edge.ErrUnreachable) || !strings.Contains(err.Error(), "ended at once: exit status 1") {
		t.Errorf("a program that ends: %v", err)
	}
	if err := box.Kick(t.Context(), "wn0", "x"); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("kick of nothing: %v", err)
	}
	if _, err := Open(Config{}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("open without anything: %v", err)
	}
}

// A port that is taken is an error, and the device is not left half made.
func TestTakenPortIsAnError(t *testing.T) {
	box := newBox(t, "edge")
	var taken *net.UDPConn
	var err error
	box.in(func() { taken, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 51820}) })
	if err != nil {
		t.Fatal(err)
	}
	atHub := render.WireGuard{Name: tunB, ListenPort: 51820}
	box.in(func() { err = box.Apply(t.Context(), box.private, []render.WireGuard{atHub}) })
	if !errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), "UDP port of wn51820") {
		t.Errorf("apply: %v", err)
	}
	if got := box.state(t); len(got) != 0 {
		t.Errorf("left behind: %+v", got)
	}
	if links := ip(t, "-n", box.ns, "link"); strings.Contains(links, tunB) {
		t.Errorf("left behind: %s", links)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	box.apply(t, atHub)
}
