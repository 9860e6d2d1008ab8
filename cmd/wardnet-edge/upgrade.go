package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/upgrade"
	"github.com/wardnet/wardnet/pki/enrol"
)

// version is the build's, set by -ldflags "-X main.version=1.4.0".
var version string

// build is what version tells.
type build struct {
	Version  string `json:"version"`
	Protocol int    `json:"protocol"` // with controllers
	GOOS     string `json:"goos"`
	GOARCH   string `json:"goarch"`
}

func (b build) String() string {
	return fmt.Sprintf("wardnet-edge %s (%s/%s), protocol %d", b.Version, b.GOOS, b.GOARCH, b.Protocol)
}

// thisBuild is the running binary's; without a version built in, the commit it
// was built from.
func thisBuild() build {
	b := build{Version: version, Protocol: edge.Protocol, GOOS: runtime.GOOS, GOARCH: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok && b.Version == "" {
		b.Version = "devel"
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Version = fmt.Sprintf("devel+%.12s", s.Value)
			}
		}
	}
	return b
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this binary and the protocol it speaks",
		Example: "  wardnet-edge version --json",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.print(c, thisBuild()) },
	}
}

// live runs the agent as one of the binaries that this device has: by the
// journal another one may run in its place, and the agent may leave its process
// to guard a new version. run is the agent's life until its context ends, and
// tell says once what runs.
func (a *app) live(ctx context.Context, log *slog.Logger, tell func() error, run func(context.Context, func(*agent.RunConfig)) error) (err error) {
	p := upgrade.Inherit()
	defer func() { p.Say(err) }()
	up, err := upgrade.Open(ctx, a.state, upgrade.Deps{
		Keys: func() map[string]crypto.PublicKey { return agentKeys(a.state) }, Version: thisBuild().Version, Stamped: version != "", Log: log,
	})
	if err != nil {
		return err
	}
	release, err := up.Begin(ctx, p)
	if err != nil {
		return err
	}
	defer release()
	if !p.Again {
		if err := tell(); err != nil {
			return err
		}
	}
	inner, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	var wg sync.WaitGroup
	wg.Go(func() { up.Run(inner) })
	err = run(inner, func(cfg *agent.RunConfig) {
		cfg.Services = append(cfg.Services, up.Register)
		cfg.Version, cfg.Hold, cfg.Strict = up.Version(), up.Hold, up.Trial()
		cfg.OnAgent = func(ag *agent.Agent) { up.Use(ag, leave) }
	})
	cause := context.Cause(inner)
	leave(nil)
	wg.Wait()
	switch {
	case errors.Is(cause, upgrade.ErrActivated):
		return up.Guard(ctx)
	case errors.Is(cause, upgrade.ErrTakenBack):
		return cause
	case errors.Is(cause, upgrade.ErrKept):
		return nil
	}
	return err
}

// agentKeys are the pinned keys of agent binaries; none before the device is
// enrolled.
func agentKeys(state string) map[string]crypto.PublicKey {
	keys := map[string]crypto.PublicKey{}
	if id, err := enrol.Load(agent.IdentityDir(state)); err == nil {
		for kid, k := range id.Keys("agent-binary") {
			keys[kid] = k
		}
	}
	return keys
}
