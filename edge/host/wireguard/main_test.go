package wireguard

import (
	"fmt"
	"os"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/wardnet/wardnet/edge/host/hosttest"
)

// The test program is also the process under test, and the plain wireguard-go
// it is compared with.
func TestMain(m *testing.M) {
	hosttest.WireGuardProcess()
	if len(os.Args) == 3 && os.Args[1] == "plain" {
		os.Exit(plainWireGuard(os.Args[2]))
	}
	os.Exit(m.Run())
}

// plainWireGuard runs one device the straightforward way, configured by the
// UAPI text in its environment, until it is killed.
func plainWireGuard(name string) int {
	t, err := tun.CreateTUN(name, 1420)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dev := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	if err := dev.IpcSet(os.Getenv("UAPI")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := dev.Up(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-dev.Wait()
	return 0
}
