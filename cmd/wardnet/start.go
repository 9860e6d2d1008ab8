package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/policy/authzen"
)

// start runs every loop and listener in g; they end with ctx, listeners first.
func (p *plane) start(ctx context.Context, g *errgroup.Group, l listeners) error {
	open, err := p.book.Load(ctx, time.Now())
	if err != nil {
		return fmt.Errorf("take up open incidents: %w", err)
	}
	p.detectors.Seed(open)
	for _, loop := range []func(context.Context) error{
		p.pki.Run, p.acme.Run, p.boots.Run, p.history.Run, p.collector.Run, p.console.Run, p.watchFacts, p.tick,
		func(ctx context.Context) error { return ended(ctx, p.ctl.Run(ctx)) },
		func(ctx context.Context) error { return ended(ctx, p.agents.Run(ctx)) },
		func(ctx context.Context) error { return p.channel.Serve(ctx, l.devices) },
	} {
		g.Go(func() error { return loop(ctx) })
	}
	metrics := http.NewServeMux()
	metrics.Handle("GET /metrics", promhttp.HandlerFor(p.reg, promhttp.HandlerOpts{}))
	metrics.Handle("GET /federate", p.collector.Handler())
	metrics.Handle("/api/v1/", p.history.API())

	console := p.console.Server()
	p.serveHTTP(ctx, g, console, tls.NewListener(l.console, p.httpTLS(pki.ConsoleListener)))
	p.serveHTTP(ctx, g, p.console.Server(), l.socket)
	p.serveHTTP(ctx, g, p.server(authzen.Handler(p.engine, p.pep)), p.pki.Listen(l.pep, pki.PEPListener, "h2", "http/1.1"))
	p.serveHTTP(ctx, g, p.server(p.pki.EnrolHandler()), tls.NewListener(l.enrol, p.httpTLS(pki.EnrolListener)))
	p.serveHTTP(ctx, g, p.server(p.step.Handler(p.pki.CAHandler())), p.pki.Listen(l.ca, pki.CAListener, "h2", "http/1.1"))
	p.serveHTTP(ctx, g, p.server(p.ocsp.Handler(pki.OCSPPath, p.pki.StatusHandler())), l.status)
	p.serveHTTP(ctx, g, p.server(metrics), l.metrics)
	return nil
}

// ended turns the end of ctx into a clean end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// tick tells detectors and the incident book that time has passed.
func (p *plane) tick(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			p.detectors.Tick(now)
			if err := p.book.Tick(ctx, now); err != nil && ctx.Err() == nil {
				p.log.ErrorContext(ctx, "incident not saved, trying again", "err", err)
			}
		}
	}
}

// pep names the enforcement point behind a request by its certificate.
func (p *plane) pep(r *http.Request) (string, error) {
	if r.TLS == nil {
		return "", errors.New("no TLS")
	}
	return p.pki.IdentifyService(*r.TLS)
}

func (p *plane) httpTLS(l pki.Listener) *tls.Config {
	c := p.pki.HubTLS(l)
	c.NextProtos = []string{"h2", "http/1.1"}
	return c
}

func (p *plane) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// serveHTTP serves until ctx ends, then lets requests under way finish briefly.
func (p *plane) serveHTTP(ctx context.Context, g *errgroup.Group, s *http.Server, l net.Listener) {
	g.Go(func() error {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if err := s.Shutdown(end); err != nil {
			return s.Close() // event streams never end by themselves
		}
		return nil
	})
}
