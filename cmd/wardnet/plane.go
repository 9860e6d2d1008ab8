package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/console"
	"github.com/wardnet/wardnet/console/people"
	"github.com/wardnet/wardnet/controller"
	configs "github.com/wardnet/wardnet/controller/archive"
	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/controller/upgrade"
	"github.com/wardnet/wardnet/edge/channel"
	"github.com/wardnet/wardnet/edge/gnmi"
	"github.com/wardnet/wardnet/incident"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/acmeca"
	"github.com/wardnet/wardnet/pki/ocsp"
	"github.com/wardnet/wardnet/pki/stepca"
	"github.com/wardnet/wardnet/policy"
	"github.com/wardnet/wardnet/telemetry"
)

// plane is the running controller: every part, wired.
type plane struct {
	cfg   Config
	log   *slog.Logger
	reg   *prometheus.Registry
	db    *store.DB
	audit *store.Audit

	stopSigner func() // nil: no signing process of ours

	pki       *pki.PKI
	boots     *pki.Boots
	acme      *acmeca.Server
	step      *stepca.Server
	ocsp      *ocsp.Responder
	channel   *channel.Server
	ctl       *controller.Controller
	agents    *upgrade.Conductor
	census    *upgrade.Census
	collector *telemetry.Collector
	history   *telemetry.History
	detectors *anomaly.Engine
	book      *incident.Book
	engine    *policy.Engine
	people    *people.Directory
	console   *console.Console

	kept     *console.KeptInventory
	devices  *console.JoinedDevices
	tunnels  *console.Tunnels
	tickets  *console.TicketBook
	subjects *store.Policy
	intents  *console.Intents
	configs  *configs.Keeper
	routers  *routers

	declared atomic.Pointer[declared] // never nil
	facts    facts
}

// newPlane opens and wires everything; nothing serves yet.
func newPlane(ctx context.Context, cfg Config, l listeners, log *slog.Logger) (p *plane, err error) {
	p = &plane{cfg: cfg, log: log, reg: prometheus.NewRegistry()}
	p.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	made := p // what is returned with an error is nil
	defer func() {
		if err != nil {
			made.close()
		}
	}()
	if p.db, err = store.Open(ctx, cfg.DSN); err != nil {
		return nil, err
	}
	p.db.Instrument(p.reg)
	p.audit = store.NewAudit(p.db, cfg.Org)
	inventories := store.NewInventory(p.db, cfg.Org)
	p.kept = console.AdaptInventory(inventories, cfg.Org, p.inventoryChanged)
	inv, _, err := p.kept.Load(ctx) // what the console shows, and not another copy of it
	if err != nil {
		return nil, err
	}
	p.declared.Store(declare(inv))
	for _, step := range []func(context.Context, listeners) error{p.openPKI, p.openIssuing, p.openTelemetry, p.openAgents, p.openConfigs, p.openController, p.openPolicy, p.openConsole} {
		if err := step(ctx, l); err != nil {
			return nil, err
		}
	}
	p.inventoryChanged(ctx, inv, 0)
	return p, nil
}

func (p *plane) close() {
	if p.routers != nil {
		p.routers.close()
	}
	if p.history != nil {
		if err := p.history.Close(); err != nil {
			p.log.Error("history not closed", "err", err)
		}
	}
	if p.stopSigner != nil {
		p.stopSigner()
	}
	if p.db != nil {
		if err := p.db.Close(); err != nil {
			p.log.Error("store not closed", "err", err)
		}
	}
}

// at is host:port of l as others reach it: the first configured name with the
// port that was bound.
func (p *plane) at(l net.Listener) string {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return l.Addr().String()
	}
	return net.JoinHostPort(p.cfg.Names[0], port)
}

func (p *plane) openPKI(ctx context.Context, l listeners) error {
	cfg := pki.Config{
		TrustDomain: p.cfg.TrustDomain,
		EnrolURL:    "https://" + p.at(l.enrol), CAURL: "https://" + p.at(l.ca),
		StatusURL: "http://" + p.at(l.status), Channel: p.at(l.devices),
	}
	for _, n := range p.cfg.Names {
		if a, err := netip.ParseAddr(n); err == nil {
			cfg.IPs = append(cfg.IPs, a)
		} else {
			cfg.DNSNames = append(cfg.DNSNames, n)
		}
	}
	var err error
	if p.boots, err = pki.NewBoots(pki.BootDeps{Store: store.NewBoots(p.db, p.cfg.Org), Log: p.log, Reg: p.reg}); err != nil {
		return err
	}
	signer, err := p.openSigner(ctx, cfg)
	if err != nil {
		return err
	}
	p.pki, err = pki.Open(ctx, pki.Deps{
		Boots: p.boots, Store: store.NewPKI(p.db, p.cfg.Org), Dir: p.cfg.Data, Signer: signer, Audit: p.auditPKI,
		Device: func(_ context.Context, id inventory.DeviceID) (inventory.Device, error) {
			return p.declared.Load().device(id)
		},
		Log: p.log, Reg: p.reg,
	}, cfg)
	if err != nil {
		return err
	}
	p.channel, err = channel.NewServer(channel.Deps{
		TLS: p.pki.HubTLS(pki.ChannelListener), Identify: p.pki.IdentifyDevice, Refused: p.refused,
		OnUp: func(id inventory.DeviceID) {
			console.AdaptBoots(p.boots).Connected(context.Background(), id)
			p.ctl.Wake(id)
			p.agents.Wake(id)
			p.census.Up(id)
			if !p.cfg.Telemetry.Off {
				p.collector.Up(id)
			}
		},
		OnDown: func(id inventory.DeviceID) {
			p.ctl.Down(id)
			p.agents.Down(id)
			p.collector.Down(id)
		},
		OnFlap: p.flapping, Log: p.log, Reg: p.reg,
	}, channel.Config{Handshakes: handshakesPerCore * runtime.NumCPU(), Rate: p.cfg.Channel.HandshakesPerSecond})
	if err != nil {
		return err
	}
	p.pki.CloseWith(p.channel)
	p.pki.OnIssuersChanged(func() {
		if n := p.channel.Recheck(); n > 0 {
			p.log.Warn("sessions ended of an issuer that is accepted no more", "count", n)
		}
	})
	return nil
}

func (p *plane) openTelemetry(ctx context.Context, _ listeners) error {
	labels := func(d inventory.DeviceID, object string) (inventory.SiteID, inventory.CarrierID) {
		return p.declared.Load().labels(d, object)
	}
	var err error
	p.history, err = telemetry.OpenHistory(telemetry.HistoryDeps{Dir: filepath.Join(p.cfg.Data, "history"), Labels: labels, Log: p.log, Reg: p.reg},
		telemetry.HistoryConfig{Retention: p.cfg.Telemetry.Retention})
	if err != nil {
		return err
	}
	p.book, err = incident.NewBook(incident.Deps{
		Store: store.NewIncidents(p.db, p.cfg.Org), Topology: func() *incident.Topology { return p.declared.Load().topology },
		InService: p.inService, Log: p.log, Reg: p.reg,
	}, incident.Config{})
	if err != nil {
		return err
	}
	p.tickets = console.AdaptIncidents(p.book, p.kept)
	p.detectors, err = anomaly.NewEngine(anomaly.Deps{Emit: func(f anomaly.Finding) {
		p.book.Observe(f)
		p.tickets.Observe(f)
	}, Reg: p.reg}, anomaly.Config{})
	if err != nil {
		return err
	}
	p.tunnels = console.NewTunnels()
	p.collector, err = telemetry.NewCollector(telemetry.Deps{
		Dial: func(_ context.Context, id inventory.DeviceID) (grpc.ClientConnInterface, error) {
			return connOf(p.channel, id)
		},
		Sinks:  []func(telemetry.Sample){p.history.Append, p.detectors.Observe, p.tunnels.Observe, p.heard},
		Labels: labels, Expected: p.expected, Log: p.log, Reg: p.reg,
	}, telemetry.Config{SampleInterval: p.cfg.Telemetry.SampleInterval})
	return err
}

// handshakesPerCore bounds how many reconnecting edges take the processor at
// once: after a restart the whole city is back within seconds either way, and
// access decisions must not wait behind it.
const handshakesPerCore = 2

// connOf avoids a non-nil interface around a nil connection.
func connOf(s *channel.Server, id inventory.DeviceID) (grpc.ClientConnInterface, error) {
	c, err := s.Conn(id)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// proofIdle keeps what is proven of a city fast to prove again while somebody
// works on it, and its memory free for the rest of the day.
const proofIdle = 10 * time.Minute

func (p *plane) openController(ctx context.Context, _ listeners) error {
	revisions := store.NewRevisions(p.db, p.cfg.Org)
	key := p.pki.Keys()[pki.RevisionKey]
	intents := console.AdaptRevisions(console.IntentSources{
		Store: revisions, Approvals: revisions, Waivers: revisions, Baskets: revisions, Inventory: p.kept, Org: p.cfg.Org, Signer: key.Signer, KeyID: key.ID,
	})
	var err error
	rows := store.NewController(p.db, p.cfg.Org)
	p.ctl, err = controller.New(controller.Deps{
		Store: rows, Drifts: rows, Archive: p.configs, Revisions: revisions, Approvals: verified{revisions, key}, Waivers: verified{revisions, key},
		Dial:   p.dial,
		Prover: &proof.Prover{Idle: proofIdle},
		Signer: key.Signer, KeyID: key.ID, Keys: p.pki.WireGuardKeys, Return: intents.Return, Audit: p.auditRollouts,
		Reached: console.AdaptBoots(p.boots).Reached,
		Log:     p.log, Reg: p.reg,
	}, p.cfg.Controller)
	if err != nil {
		return err
	}
	p.pki.OnPeersChanged(p.ctl.KeysChanged)
	if err := p.ctl.Load(ctx); err != nil {
		return err
	}
	intents.Use(p.ctl)
	p.facts.look = p.look
	p.devices = console.AdaptDevices(console.DeviceSources{
		Inventory: p.kept, Controller: p.ctl, Certificates: p.pki.List, Mark: p.pki.Mark, Sessions: p.channel.Sessions, Targets: p.collector.Targets, Tunnels: p.tunnels,
		Agent:       func(id inventory.DeviceID) string { return p.census.Of(id).Version },
		Quarantined: p.pki.Quarantined,
	})
	return p.openPeople(intents)
}

// dial gives the driver of a device: over the management channel that it keeps,
// or by dialling a router of the data centre.
func (p *plane) dial(ctx context.Context, id inventory.DeviceID) (controller.Driver, error) {
	if r, is := p.declared.Load().routers[id]; is {
		return p.routers.driver(ctx, r)
	}
	c, err := p.channel.Conn(id)
	if err != nil {
		return nil, err
	}
	return gnmi.New(c, gnmi.Config{}), nil
}

func (p *plane) openPolicy(ctx context.Context, _ listeners) error {
	bundle, err := policy.Builtin()
	if err != nil {
		return err
	}
	writer, err := os.Hostname()
	if err != nil {
		return err
	}
	log, err := policy.OpenLog(ctx, p.subjects, writer)
	if err != nil {
		return err
	}
	if p.engine, err = policy.New(ctx, policy.Deps{Bundle: bundle, Log: log, Slog: p.log, Reg: p.reg}, policy.Config{}); err != nil {
		return err
	}
	return p.refreshFacts(ctx) // before the first question: no facts means deny
}

// inService says that a device's confirmed configuration is the assigned one:
// only then are its symptoms news.
func (p *plane) inService(id inventory.DeviceID) bool {
	st, err := p.ctl.Status(id)
	return err == nil && st.Revision > 0 && st.InSync()
}

// expected lists the devices that ought to be connected.
func (p *plane) expected() []inventory.DeviceID {
	if p.cfg.Telemetry.Off {
		return nil
	}
	var out []inventory.DeviceID
	for _, st := range p.ctl.Statuses() {
		if _, dialled := p.declared.Load().routers[st.Device]; st.Revision > 0 && !dialled {
			out = append(out, st.Device)
		}
	}
	return out
}

// inventoryChanged tells everybody who keeps something of the inventory.
func (p *plane) inventoryChanged(ctx context.Context, inv inventory.Inventory, _ uint64) {
	p.declared.Store(declare(inv))
	all := slices.Clone(inv.Devices)
	for _, r := range inv.Routers {
		all = append(all, r.Device())
	}
	p.ctl.SetDevices(all)
	p.routers.keep(p.declared.Load().routers)
	if n := p.channel.Recheck(); n > 0 {
		p.log.InfoContext(ctx, "sessions ended of devices no longer in the inventory", "count", n)
	}
	p.collector.Relabel()
	p.history.Relabel()
	if err := p.refreshFacts(ctx); err != nil {
		p.log.ErrorContext(ctx, "policy facts not refreshed", "err", err)
	}
}

// refused audits a peer that the channel turned away, unless the PKI did.
func (p *plane) refused(remote string, err error) {
	if _, ok := errors.AsType[*pki.Refusal](err); ok {
		return
	}
	p.note(context.Background(), "channel", remote, "channel.register", "connection", "refused", err.Error())
}

func (p *plane) flapping(id inventory.DeviceID, swaps int) {
	p.log.Warn("two claimants of one device take turns", "device", id, "count", swaps)
	p.note(context.Background(), "wardnet", "", "channel.flap", string(id), "refused", fmt.Sprintf("%d sessions replaced each other within a minute; a cloned certificate, or the device runs twice", swaps))
}
