package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/edge/host/wireguard/process"
	"github.com/wardnet/wardnet/inventory"
)

func newWG(a *app) *cobra.Command {
	var dir, file string
	c := &cobra.Command{
		Use:   "wg",
		Short: "Host the box's userspace WireGuard devices",
		Long: `Host the box's userspace WireGuard devices until SIGINT or SIGTERM.

The agent starts this by itself on a box whose kernel has no WireGuard, adopts
the one that runs after its own upgrade, and starts it again when it dies. It
may also be run by hand or as a service of its own, before the agent.

It makes no device until it is told so over wg.sock in the run directory, which
serves its own user only. One request, one answer, each a line of JSON:

  {"op":"list"}
  {"op":"get","name":"wg0"}
  {"op":"set","name":"wg0","mtu":1380,"uapi":"private_key=…\nlisten_port=51820\n"}
  {"op":"delete","name":"wg0"}
  {"op":"stop"}

uapi is WireGuard's cross-platform configuration format. Interfaces stay when
the process ends, with addresses and routes but without a carrier; delete
removes one. The environment variable GOMEMLIMIT replaces its own memory limit.
It uses one processor below about 1,000 packets a second and all of them above,
or those of GOMAXPROCS.`,
		Example: `  wardnet-edge wg --run-dir /run/wardnet-edge
  echo '{"op":"list"}' | nc -UN /run/wardnet-edge/wg.sock`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if dir == "" {
				return fmt.Errorf("%w: --run-dir is required", inventory.ErrInvalid)
			}
			log, err := a.logger(c)
			if err != nil {
				return err
			}
			if file != "" {
				f, err := process.OpenFile(file)
				if err != nil {
					return err
				}
				log = slog.New(slog.NewTextHandler(f, nil))
			}
			if err := program.Urgent(os.Getpid()); err != nil {
				log.Warn("packets may wait for other programs", "err", err)
			}
			_, limited := os.LookupEnv("GOMEMLIMIT")
			if _, chosen := os.LookupEnv("GOGC"); !chosen && !limited {
				debug.SetGCPercent(400) // little of the heap is alive, and the limit bounds it
			}
			_, chosen := os.LookupEnv("GOMAXPROCS")
			return process.Serve(c.Context(), process.Config{RunDir: dir, Log: log, Bounded: !limited, Processors: chosen})
		},
	}
	c.Flags().StringVar(&dir, "run-dir", "", "directory for the control socket, the owner's alone (required)")
	c.Flags().StringVar(&file, "log-file", "", "write the log to this file, kept under 256 KiB with one older file")
	return c
}
