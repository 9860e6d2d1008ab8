package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/console"
	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

var logLevels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

func logger(w io.Writer, level string) (*slog.Logger, error) {
	l, ok := logLevels[level]
	if !ok {
		return nil, fmt.Errorf("%w: log level %q is not debug, info, warn or error", inventory.ErrInvalid, level)
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})), nil
}

func newServe() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the controller",
		Long: `Run the controller in the foreground until SIGINT or SIGTERM.

The first start makes the certificate authority and writes the first
administrator's one-time link to a file that only its owner may read. Root on
the unix socket in the data directory is break-glass: audited and alarmed.`,
		Example: "  wardnet serve --config /etc/wardnet/wardnet.yaml\n  wardnet serve --data /tmp/w --json",
		Args:    invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			data := ""
			if cmd.Flags().Changed("data") {
				var err error
				if data, err = cmd.Flags().GetString("data"); err != nil {
					return err
				}
			}
			cfg, err := loadConfig(path, data)
			if err != nil {
				return err
			}
			log, err := logger(cmd.ErrOrStderr(), cfg.LogLevel)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, log, func(s client.Serving) error {
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "console  https://%s\nPEPs     https://%s\ndevices  %s\nCA       https://%s\nenrol    https://%s\nstatus   http://%s\nmetrics  http://%s\nroot     %s\n",
					s.Console, s.PEP, s.Devices, s.CA, s.Enrol, s.Status, s.Metrics, s.Root)
				if s.Setup != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "the first administrator's one-time link is in %s\n", s.Setup)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the bound addresses as one JSON line")
	return cmd
}

// listeners are bound before anything else, so that bundles and certificates
// can name the real ports.
type listeners struct {
	console, pep, devices, ca, enrol, status, metrics, socket net.Listener
}

func bind(ctx context.Context, cfg Config) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for _, x := range []struct {
		name, addr string
		into       *net.Listener
	}{
		{"console", cfg.Listen.Console, &l.console},
		{"pep", cfg.Listen.PEP, &l.pep},
		{"devices", cfg.Listen.Devices, &l.devices},
		{"ca", cfg.Listen.CA, &l.ca},
		{"enrol", cfg.Listen.Enrol, &l.enrol},
		{"status", cfg.Listen.Status, &l.status},
		{"metrics", cfg.Listen.Metrics, &l.metrics},
	} {
		if *x.into, err = net.Listen("tcp", x.addr); err != nil {
			return l, fmt.Errorf("listen.%s: %w; choose another address in the configuration", x.name, err)
		}
	}
	l.socket, err = console.ListenUnix(ctx, filepath.Join(cfg.Data, "wardnet.sock"))
	return l, err
}

func (l listeners) close() {
	for _, x := range []net.Listener{l.console, l.pep, l.devices, l.ca, l.enrol, l.status, l.metrics, l.socket} {
		if x != nil {
			_ = x.Close()
		}
	}
}

// lockData makes the data directory and holds it: two controllers on one
// directory would both own the CA's files.
func lockData(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: another controller holds %s; end it or choose another --data", inventory.ErrConflict, dir), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// serve runs the controller until ctx ends; ready is told where it listens.
func serve(ctx context.Context, cfg Config, log *slog.Logger, ready func(client.Serving) error) error {
	if cfg.MemoryMiB > 0 {
		debug.SetMemoryLimit(cfg.MemoryMiB << 20)
	}
	release, err := lockData(cfg.Data)
	if err != nil {
		return err
	}
	defer release()
	l, err := bind(ctx, cfg)
	if err != nil {
		return err
	}
	defer l.close()
	p, err := newPlane(ctx, cfg, l, log)
	if err != nil {
		return err
	}
	defer p.close()
	g, ctx := errgroup.WithContext(ctx)
	if err := p.start(ctx, g, l); err != nil {
		return errors.Join(err, g.Wait())
	}
	serving, err := p.serving(ctx, l)
	if err == nil {
		err = ready(serving)
	}
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "serving", "console", serving.Console, "devices", serving.Devices)
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
