package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/wardnet/wardnet/inventory"
)

func TestParseMetrics(t *testing.T) {
	for text, network := range map[string]string{"": "", "unix:/run/x.sock": "unix", "127.0.0.1:9101": "tcp", "[::1]:9101": "tcp"} {
		if m, err := parseMetrics(text); err != nil || m.network != network {
			t.Errorf("%q: %+v, %v", text, m, err)
		}
	}
	for _, text := range []string{"0.0.0.0:9101", ":9101", "10.0.0.1:9101", "localhost:9101", "unix:x.sock", "127.0.0.1", "unix:/" + strings.Repeat("x", 100)} {
		if _, err := parseMetrics(text); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%q is taken: %v", text, err)
		}
	}
}

// Metrics are read over a socket of root's alone, also after an agent that was
// killed left its socket behind.
func TestServeMetrics(t *testing.T) {
	dir, err := os.MkdirTemp("", "wm") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "m.sock")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = left.Close() // and the socket stays

	reg := newRegistry()
	promauto.With(reg).NewCounter(prometheus.CounterOpts{Name: "host_heals_total", Help: "Test."}).Add(3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- metricsAddr{"unix", path}.serve(ctx, reg, slog.New(slog.DiscardHandler)) }()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	var text string
	for end := time.Now().Add(5 * time.Second); text == "" && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if resp, err := client.Get("http://edge/metrics"); err == nil {
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			text = string(b)
		}
	}
	if !strings.Contains(text, "\nhost_heals_total 3\n") || !strings.Contains(text, "process_resident_memory_bytes") {
		t.Errorf("metrics: %.300s", text)
	}
	if s, err := os.Stat(path); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", s.Mode(), err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := (metricsAddr{}).serve(t.Context(), reg, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("no address: %v", err)
	}
}
