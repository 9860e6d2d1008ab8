package gnmi

import (
	"context"
	"crypto"
	"log/slog"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/edge/edgetest"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/simhost"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agentOn starts a real agent, with its state on disk, on a simulated host and
// returns a driver that talks gNMI with it.
func agentOn(t *testing.T, keys map[string]crypto.PublicKey) controller.Driver {
	world, err := simhost.New(simhost.Config{Seed: 1, Circuits: []simhost.Circuit{
		{ID: "c-26740-a", Device: edgetest.Device, Site: "s-26740", Kind: inventory.FTTH, Carrier: "vnpt"},
	}})
	must(t, err)
	host, err := world.Host(edgetest.Device, func() string { return "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=" })
	must(t, err)
	dir, err := disk.Open(disk.OS{}, t.TempDir())
	must(t, err)
	a, err := agent.New(t.Context(), agent.Deps{
		Device: edgetest.Device, Host: host, Dir: dir, Keys: func() map[string]crypto.PublicKey { return keys }, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { a.Loop(ctx) })
	conn := serve(t, a.Register)
	t.Cleanup(func() { // before the connection ends: last in, first out
		cancel()
		wg.Wait()
		host.Close()
	})
	d := New(conn, Config{})
	must(t, d.Check(t.Context()))
	return d
}

// The driver and the real agent keep the contract together.
func TestContract(t *testing.T) { edgetest.Run(t, agentOn) }
