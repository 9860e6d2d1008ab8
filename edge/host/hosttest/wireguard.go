package hosttest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/wardnet/wardnet/edge/host/wireguard/process"
)

// WireGuardProcess makes the test program the WireGuard process of the boxes
// under test when it is called as one, `wardnet-edge wg --run-dir DIR --log-file
// FILE`, and then does not return. TestMain calls it first.
func WireGuardProcess() {
	if len(os.Args) == 6 && os.Args[1] == "wg" {
		os.Exit(serveWireGuard(os.Args[3], os.Args[5]))
	}
}

func serveWireGuard(dir, file string) int {
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
