package shape

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/wardnet/wardnet/edge/host/wireguard/process"
)

// TestMain is also the WireGuard process of the boxes under test.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == "wg" {
		os.Exit(wg(os.Args[3], os.Args[5]))
	}
	os.Exit(m.Run())
}

// wg is `wardnet-edge wg --run-dir DIR --log-file FILE`.
func wg(dir, file string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	f, err := process.OpenFile(file)
	if err == nil {
		err = process.Serve(ctx, process.Config{RunDir: dir, Log: slog.New(slog.NewTextHandler(f, nil)), Bounded: true})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
