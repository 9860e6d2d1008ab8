package signer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/inventory"
)

// maxRequest bounds a request: a CRL of a hundred thousand entries.
const maxRequest = 16 << 20

// Listen opens the unix socket at path. Only the owner may connect (mode 0600);
// where another user is allowed the socket is open to all (mode 0666) and the
// kernel's word on who connects decides, in either case. A socket that a dead
// process left behind is replaced; a live one is an error.
func Listen(ctx context.Context, path string, allowed []int, log *slog.Logger) (net.Listener, error) {
	fail := func(err error) (net.Listener, error) { return nil, fmt.Errorf("listen on %s: %w", path, err) }
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "unix", path); err == nil {
		conn.Close()
		return fail(fmt.Errorf("%w: another signer serves it; stop that one first", inventory.ErrConflict))
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket == 0 {
		return fail(fmt.Errorf("%w: it exists and is no socket", inventory.ErrConflict))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fail(err)
	}
	// The socket gets its mode with its name: no moment in which it is open.
	old := unix.Umask(0o177)
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	unix.Umask(old)
	if err != nil {
		return fail(err)
	}
	self := os.Geteuid()
	if slices.ContainsFunc(allowed, func(uid int) bool { return uid != self && uid != 0 }) {
		if err := os.Chmod(path, 0o666); err != nil {
			return fail(errors.Join(err, l.Close()))
		}
	}
	return &knownPeers{Listener: l, allowed: append(slices.Clone(allowed), self), log: log}, nil
}

// knownPeers accepts connections of processes of the allowed users.
type knownPeers struct {
	net.Listener
	allowed []int
	log     *slog.Logger
}

// Accept implements [net.Listener].
func (l *knownPeers) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && slices.Contains(l.allowed, uid) {
			return conn, nil
		}
		l.log.Warn("a stranger was turned away at the signer's socket", "uid", uid, "err", err)
		conn.Close()
	}
}

// peerUID asks the kernel who connected (SO_PEERCRED, unix(7)).
func peerUID(conn net.Conn) (int, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return -1, fmt.Errorf("a %T is no unix connection", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return -1, err
	}
	uid := -1
	var asked error
	if err := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); asked == nil {
			uid = int(cred.Uid)
		}
	}); err != nil {
		return -1, err
	}
	return uid, asked
}

// failure is the body of a refusal.
type failure struct {
	Error string `json:"error"`
	Kind  string `json:"kind"` // see kinds
}

// kinds are the errors that keep their meaning over the socket.
var kinds = []struct {
	name   string
	status int
	err    error
}{
	{"retired", http.StatusConflict, ErrRetired},
	{"number", http.StatusConflict, ErrNumber},
	{"ceremony", http.StatusConflict, ErrCeremony},
	{"invalid", http.StatusBadRequest, inventory.ErrInvalid},
	{"not-found", http.StatusNotFound, inventory.ErrNotFound},
	{"conflict", http.StatusConflict, inventory.ErrConflict},
}

// Serve offers s on l until ctx ends; requests under way are finished.
func Serve(ctx context.Context, l net.Listener, s *Service, log *slog.Logger) error {
	mux := http.NewServeMux()
	handle(mux, log, "GET /v1/state", func(ctx context.Context, _ struct{}) (State, error) { return s.State(ctx) })
	handle(mux, log, "POST /v1/issue", s.Issue)
	handle(mux, log, "POST /v1/crl", s.CRL)
	handle(mux, log, "POST /v1/ssh", s.SSH)
	handle(mux, log, "POST /v1/change", s.Change)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		return errors.Join(err, srv.Close())
	}
	return nil
}

// handle is the one place where an error becomes a status. The texts are for
// the controller's log: nobody else connects.
func handle[I, O any](mux *http.ServeMux, log *slog.Logger, pattern string, fn func(context.Context, I) (O, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var in I
		var out O
		var err error
		if r.Method == http.MethodPost {
			d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
			d.DisallowUnknownFields()
			if err = d.Decode(&in); err != nil {
				err = fmt.Errorf("%w: request: %w", inventory.ErrInvalid, err)
			}
		}
		if err == nil {
			out, err = fn(r.Context(), in)
		}
		w.Header().Set("Content-Type", "application/json")
		if err == nil {
			json.NewEncoder(w).Encode(out) //nolint:errcheck // the controller is gone
			return
		}
		body, status := failure{Error: err.Error(), Kind: "failed"}, http.StatusInternalServerError
		for _, k := range kinds {
			if errors.Is(err, k.err) {
				body.Kind, status = k.name, k.status
				break
			}
		}
		log.WarnContext(r.Context(), "not signed", "path", pattern, "err", err)
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(body) //nolint:errcheck // the controller is gone
	})
}

// drain lets a connection be used again.
func drain(r io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(r, 64<<10)) //nolint:errcheck // only to reuse the connection
	r.Close()
}
