package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/wardnet/wardnet/console/people"
)

// Server is an HTTP server with the limits the console needs. Serve it on the
// TLS listener and on the unix socket's.
func (c *Console) Server() *http.Server {
	return &http.Server{
		Handler:           c.Handler(),
		ConnContext:       people.WithPeer,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(c.deps.Log.Handler(), slog.LevelDebug), // strangers' broken handshakes
	}
}

// ListenUnix opens the unix socket at path for its owner only. A socket that a
// dead process left behind is replaced; a live one is an error.
func ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listen on %s: another process serves it; stop that one first", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("listen on %s: it exists and is no socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Between the two lines others could connect, but not as root; without
	// being root they need a token as anywhere else.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return l, nil
}
