//go:build lab

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
)

// hinted fails unless err is of all kinds and says more than that.
func hinted(t *testing.T, err error, kinds ...error) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v", kinds)
	}
	for _, kind := range kinds {
		if !errors.Is(err, kind) {
			t.Fatalf("got %v, want %v", err, kind)
		}
	}
	t.Log(err)
}

// shell writes a login that stands in for a device that misbehaves: bash with a
// prompt, whose "show" is ours.
func shell(t *testing.T, prompt, show string) string {
	t.Helper()
	if _, err := os.Stat("/bin/bash"); err != nil {
		t.Skip("NOT RUN: needs /bin/bash")
	}
	rc := filepath.Join(t.TempDir(), "rc")
	text := fmt.Sprintf("PS1=%q\nterminal() { :; }\nconfigure() { :; }\nshow() { %s\n}\n", prompt, show)
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "/bin/bash --noprofile --rcfile " + rc + " -i"
}

// TestHostile: every way to misbehave has an outcome with a name and a hint.
func TestHostile(t *testing.T) {
	for name, tt := range map[string]struct {
		prompt, show string
		want         []error
	}{
		"another prompt":   {"who are you? ", "echo end", []error{edge.ErrUnreachable, ErrPrompt}},
		"truncated":        {"r1# ", "printf 'Current configuration:\\n!\\nrouter bgp 65000\\n bgp router-id 1.1.1.1\\n'", []error{ErrTruncated}},
		"nothing":          {"r1# ", ":", []error{ErrTruncated}},
		"garbage":          {"r1# ", "head -c 4000 /dev/urandom | tr -d '\\033'; echo; echo end", []error{ErrGarbage}},
		"refuses to tell":  {"r1# ", "echo '% Permission denied'", []error{errAnswer}},
		"the session ends": {"r1# ", "exit 3", []error{edge.ErrUnreachable}},
		"prompt changes":   {"r1# ", "PS1='? '; echo end", []error{edge.ErrUnreachable, ErrPrompt}},
		"never ends":       {"r1# ", "sleep 60", []error{edge.ErrUnreachable, ErrPrompt}},
		"no end":           {"r1# ", "seq 1 200000", []error{ErrTruncated}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, "r-1", shell(t, tt.prompt, tt.show))
			r.cfg.Timeout = 3 * time.Second
			box := r.open(r.cfg)
			_, err := box.Read(t.Context(), ward())
			hinted(t, err, tt.want...)
			err = box.Write(t.Context(), ward(), changed())
			hinted(t, err, tt.want...)
		})
	}
}

// TestDropped cuts the line before each write of a change in turn: the next
// Write ends what was begun, or takes it back.
func TestDropped(t *testing.T) {
	r := newRouter(t, "r-1", "")
	r.write(ward())
	cuts := 0
	for after := int64(0); ; after += 3 {
		r.write(ward())
		r.runs(ward())
		r.cut.left.Store(after)
		err := r.box.Write(t.Context(), ward(), changed())
		if r.cut.left.Swap(-1) >= 0 { // it ended before
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		cuts++
		if err == nil { // cut while it read, and read again
			r.runs(changed())
			continue
		}
		if !errors.Is(err, edge.ErrUnreachable) || errors.Is(err, edge.ErrRejected) {
			t.Fatalf("cut after %d writes: %v", after, err)
		}
		have, err := r.box.Read(t.Context(), changed())
		if err != nil {
			t.Fatal(err)
		}
		want := changed()
		if cuts%2 == 0 {
			want = ward()
		}
		if err := r.box.Write(t.Context(), have, want); err != nil {
			t.Fatalf("after the cut after %d writes: %v", after, err)
		}
		r.runs(want)
	}
	if cuts < 10 {
		t.Errorf("only %d cuts", cuts)
	}
	t.Logf("cut %d times", cuts)
}

// TestLogin: sessions are kept, found dead, opened anew, and refused to whom
// they do not belong.
func TestLogin(t *testing.T) {
	r := newRouter(t, "r-1", "")
	r.write(ward())
	r.runs(ward())
	if n := r.logins.Load(); n != 1 {
		t.Errorf("%d logins", n)
	}
	// The device ends its sessions: reading opens one with a new certificate.
	if err := r.EndSessions(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	r.runs(ward())
	if n := r.logins.Load(); n != 2 {
		t.Errorf("%d logins after the device ended one", n)
	}
	// The context ends.
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("the caller has no time")
	cancel(stopped)
	if err := r.box.Write(ctx, ward(), changed()); !errors.Is(err, stopped) {
		t.Errorf("an ended context: %v", err)
	}
	r.runs(ward())
	// Many callers.
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			_, err := r.box.Read(t.Context(), ward())
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	// It is another one by its serial number, which FRR has none of: its name.
	named := func(name string) {
		conf := filepath.Join("/etc/frr", r.Space(), "vtysh.conf")
		if err := os.WriteFile(conf, []byte("no service integrated-vtysh-config\nhostname "+name+"\n"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	named("r1")
	cfg := r.cfg
	cfg.Serial = "r1"
	box := r.open(cfg)
	if _, err := box.Read(t.Context(), ward()); err != nil {
		t.Error(err)
	}
	named("r2")
	if err := r.EndSessions(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	_, err := box.Read(t.Context(), ward())
	hinted(t, err, foreign.ErrOtherDevice, edge.ErrRejected)
	hinted(t, box.Write(t.Context(), ward(), changed()), foreign.ErrOtherDevice)
	// Where no number is expected, the new name is no matter.
	r.runs(ward())

	// It comes back with another host key that our CA vouches for: the same
	// device. With one for another name, it is another device.
	if err := r.StartSSH(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.runs(ward())
	r.host.Store("another.example")
	if err := r.StartSSH(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = r.box.Read(t.Context(), ward())
	hinted(t, err, edge.ErrUnreachable)
	if !strings.Contains(err.Error(), `"router.example"`) {
		t.Errorf("the error does not name the host: %v", err)
	}
	r.host.Store("router.example")
	if err := r.StartSSH(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.runs(ward())
}

// TestSave: what runs is stored, when asked.
func TestSave(t *testing.T) {
	r := newRouter(t, "r-1", "")
	r.write(ward())
	stored := func() string {
		b, err := os.ReadFile(filepath.Join("/etc/frr", r.Space(), "bgpd.conf"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(b)
	}
	if s := stored(); strings.Contains(s, "router bgp") {
		t.Fatalf("stored without being asked:\n%s", s)
	}
	if err := r.box.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := stored(); !strings.Contains(s, "router bgp 4200026740") {
		t.Errorf("not stored:\n%s", s)
	}
}
