package process

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/inventory"
)

// start serves a new run directory until the test ends.
func start(t *testing.T) (dir string, done <-chan error) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, Config{RunDir: dir, Log: slog.New(slog.DiscardHandler)})
		close(ended)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	for end := time.Now().Add(10 * time.Second); ; {
		if st, err := os.Stat(filepath.Join(dir, Socket)); err == nil && st.Mode().Perm() == 0o600 {
			return dir, ended
		}
		if time.Now().After(end) {
			t.Fatal("no control socket of mode 0600")
		}
		time.Sleep(time.Millisecond)
	}
}

func ask(t *testing.T, dir string, req Request) Reply {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(dir, Socket))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(req); err != nil {
		t.Fatal(err)
	}
	var r Reply
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestProtocol(t *testing.T) {
	dir, done := start(t)
	if r := ask(t, dir, Request{Op: Hello}); r.Protocol != Protocol || r.PID != os.Getpid() || r.Error != "" {
		t.Errorf("hello: %+v", r)
	}
	for _, c := range []struct {
		req  Request
		want string
	}{
		{Request{Op: "sing"}, `unknown operation "sing"`},
		{Request{Op: Get, Name: "wn0"}, `WireGuard device "wn0"`},
		{Request{Op: Set, Name: "../x"}, `device name "../x"`},
		{Request{Op: Set, Name: strings.Repeat("x", 16)}, "interface name"},
		{Request{Op: Delete, Name: "wn-none"}, ""},
		{Request{Op: List}, ""},
	} {
		if r := ask(t, dir, c.req); (r.Error == "") != (c.want == "") || !strings.Contains(r.Error, c.want) {
			t.Errorf("%+v: %q, want %q", c.req, r.Error, c.want)
		}
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("run directory: %v %v", st, err)
	}
	if err := Serve(t.Context(), Config{RunDir: dir, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("a second process: %v", err)
	}
	ask(t, dir, Request{Op: Stop})
	if err := <-done; err != nil {
		t.Errorf("stop: %v", err)
	}
}

// Another user gets no answer even where the file modes let him connect.
func TestAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user; run the tests as root")
	}
	dir, err := os.MkdirTemp("", "w3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	lis, release, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for _, path := range []string{dir, filepath.Join(dir, Socket)} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, uid := range []int{0, 65534} {
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its user
			if uid != 0 {
				_, _, _ = unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err == nil {
				err = unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, Socket)})
			}
			if err != nil {
				t.Error(err)
				_ = lis.Close()
			}
		}()
		c, err := lis.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		if err := trusted(c); (err == nil) != (uid == 0) {
			t.Errorf("user %d: %v", uid, err)
		}
		_ = c.Close()
	}
}

func TestRedactKeepsSecretsIn(t *testing.T) {
	private := strings.Repeat("ab", 32)
	clean, public, err := redact("private_key=" + private + "\nlisten_port=9\npublic_key=00\npreshared_key=11\nrx_bytes=3\n")
	if err != nil || public == "" || clean != "listen_port=9\npublic_key=00\nrx_bytes=3\n" {
		t.Errorf("%q %q %v", clean, public, err)
	}
	if _, _, err := redact("private_key=abc\n"); err == nil || strings.Contains(err.Error(), "abc") {
		t.Errorf("a bad key: %v", err)
	}
}

func TestLogStaysSmall(t *testing.T) {
	var std [2]int
	for i := range std { // the log takes them over
		fd, err := unix.Dup(i + 1)
		if err != nil {
			t.Fatal(err)
		}
		std[i] = fd
	}
	path := filepath.Join(t.TempDir(), "wg.log")
	l, err := OpenFile(path)
	var errs []error
	if err == nil {
		for range 3 * logSize / 1024 {
			_, err := l.Write([]byte(strings.Repeat("x", 1023) + "\n"))
			errs = append(errs, err)
		}
		_, err = io.WriteString(os.Stderr, "a crash\n")
	}
	for i, fd := range std {
		_ = unix.Dup3(fd, i+1, 0)
		_ = unix.Close(fd)
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".1"} {
		if st, err := os.Stat(name); err != nil || st.Size() > logSize+100 || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, st, err)
		}
	}
	if raw, err := os.ReadFile(path); err != nil || !strings.HasSuffix(string(raw), "a crash\n") {
		t.Errorf("the trace of a crash is not in the log: %v", err)
	}
}
