package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wardnet/wardnet/inventory"
)

// metricsAddr is where the agent's own metrics are served: a unix socket, or a
// port of this machine's loopback. Nothing of an edge listens to a network.
type metricsAddr struct {
	network, address string // empty: nowhere
}

func parseMetrics(text string) (metricsAddr, error) {
	if text == "" {
		return metricsAddr{}, nil
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if !filepath.IsAbs(path) || len(path) > 100 {
			return metricsAddr{}, fmt.Errorf("%w: --metrics %s: give the socket's absolute path, of at most 100 bytes", inventory.ErrInvalid, text)
		}
		return metricsAddr{"unix", path}, nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil || !a.Addr().IsLoopback() {
		return metricsAddr{}, fmt.Errorf("%w: --metrics %s: give unix:PATH, or an address of the loopback with a port such as 127.0.0.1:9101", inventory.ErrInvalid, text)
	}
	return metricsAddr{"tcp", a.String()}, nil
}

// serve serves reg as Prometheus text at /metrics until ctx ends.
func (m metricsAddr) serve(ctx context.Context, reg *prometheus.Registry, log *slog.Logger) error {
	if m.network == "" {
		return nil
	}
	if m.network == "unix" {
		if s, err := os.Lstat(m.address); err == nil && s.Mode()&fs.ModeSocket != 0 {
			_ = os.Remove(m.address) // of an agent that was killed; Listen says what stands in the way
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, m.network, m.address)
	if err == nil && m.network == "unix" {
		err = os.Chmod(m.address, 0o600)
	}
	if err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 10 * time.Second}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// newRegistry collects what the agent counts, and its process.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	//lint:ignore SA1019 package collectors, which it asks for, brings database/sql into the edge
	reg.MustRegister(prometheus.NewGoCollector(), prometheus.NewProcessCollector(prometheus.ProcessCollectorOpts{}))
	return reg
}
