package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/controller/upgrade"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/acmeca"
)

const defaultData = "/var/lib/wardnet"

// Config is the controller's one configuration file. The zero value of every
// field is its default; secrets are given as paths of files.
type Config struct {
	Data        string          `yaml:"data"`         // directory; default /var/lib/wardnet
	DSN         string          `yaml:"dsn"`          // default: SQLite in Data
	Org         inventory.OrgID `yaml:"org"`          // default "hcmc"
	TrustDomain string          `yaml:"trust_domain"` // of SPIFFE ids; default "wardnet.hcmc"
	// Names are the DNS names and addresses devices and people reach the
	// controller by; the first one goes into enrolment bundles.
	Names      []string          `yaml:"names"`
	Signer     SignerConfig      `yaml:"signer"` // where the CAs' keys are
	Listen     Listen            `yaml:"listen"`
	Channel    Channel           `yaml:"channel"`
	Map        MapConfig         `yaml:"map"`
	Telemetry  Telemetry         `yaml:"telemetry"`
	Controller controller.Config `yaml:"controller"` // reconcile loop and rollouts
	Agents     upgrade.Config    `yaml:"agents"`     // upgrades of the edges' agent
	ACME       acmeca.Config     `yaml:"acme"`       // who gets certificates by ACME; default nobody
	LogLevel   string            `yaml:"log_level"`  // debug, info, warn, error; default info
	// MemoryMiB is what the process should hold at most, a soft limit: near it
	// memory is looked through more often. Default 0: none.
	MemoryMiB int64 `yaml:"memory_mib"`
}

// Listen are the addresses of the listeners, host:port; port 0 is any free one.
type Listen struct {
	Console string `yaml:"console"` // default 127.0.0.1:8443
	PEP     string `yaml:"pep"`     // default 127.0.0.1:8444
	Devices string `yaml:"devices"` // default :9443
	CA      string `yaml:"ca"`      // default :9444
	Enrol   string `yaml:"enrol"`   // default :9445
	Status  string `yaml:"status"`  // default :9446
	Metrics string `yaml:"metrics"` // default 127.0.0.1:9464
}

// Channel bounds what reconnecting devices take of the machine.
type Channel struct {
	// HandshakesPerSecond that may begin, a quarter of it for one address: after
	// a restart all devices come back at once. Default 100 for each processor.
	HandshakesPerSecond int `yaml:"handshakes_per_second"`
}

// MapConfig gives the console an outline to draw instead of computed cells.
type MapConfig struct {
	Outline     string `yaml:"outline"`     // path of a GeoJSON file whose features carry the unit's code
	Attribution string `yaml:"attribution"` // shown on the map; required with an outline
}

// Telemetry are the collector's knobs.
type Telemetry struct {
	SampleInterval time.Duration `yaml:"sample_interval"` // of counters; default 10 s
	Retention      time.Duration `yaml:"retention"`       // of history; default 360 h
	// Off collects nothing here: for thousands of devices, whose telemetry
	// collectors of their own take.
	Off bool `yaml:"off"`
}

// loadConfig reads path strictly ("" is the default configuration) and applies
// data when it is given on the command line.
func loadConfig(path, data string) (Config, error) {
	var c Config
	if path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("%w: read the configuration: %w", inventory.ErrInvalid, err)
		}
		dec := yaml.NewDecoder(bytes.NewReader(raw))
		dec.KnownFields(true)
		if err := dec.Decode(&c); err != nil {
			return c, fmt.Errorf("%w: %s: %w", inventory.ErrInvalid, path, err)
		}
	}
	if data != "" {
		c.Data = data
	}
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func (c Config) withDefaults() Config {
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&c.Data, defaultData)
	if abs, err := filepath.Abs(c.Data); err == nil {
		c.Data = abs
	}
	def(&c.DSN, "sqlite://"+filepath.Join(c.Data, "wardnet.db"))
	def((*string)(&c.Org), "hcmc")
	def(&c.TrustDomain, "wardnet.hcmc")
	if len(c.Names) == 0 {
		c.Names = []string{"localhost", "127.0.0.1", "::1"}
	}
	def(&c.Listen.Console, "127.0.0.1:8443")
	def(&c.Listen.PEP, "127.0.0.1:8444")
	def(&c.Listen.Devices, ":9443")
	def(&c.Listen.CA, ":9444")
	def(&c.Listen.Enrol, ":9445")
	def(&c.Listen.Status, ":9446")
	def(&c.Listen.Metrics, "127.0.0.1:9464")
	if c.Channel.HandshakesPerSecond == 0 {
		c.Channel.HandshakesPerSecond = 100 * runtime.NumCPU()
	}
	if c.Telemetry.SampleInterval == 0 {
		c.Telemetry.SampleInterval = 10 * time.Second
	}
	if c.Telemetry.Retention == 0 {
		c.Telemetry.Retention = 15 * 24 * time.Hour
	}
	if full, err := c.Controller.WithDefaults(); err == nil { // else validate says why
		c.Controller = full
	}
	c.Agents = c.Agents.WithDefaults()
	c.ACME = c.ACME.WithDefaults()
	def(&c.LogLevel, "info")
	return c
}

// validate reports every fault at once.
func (c Config) validate() error {
	var faults []error
	bad := func(field, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: %s: %s", inventory.ErrInvalid, field, fmt.Sprintf(format, args...)))
	}
	for field, addr := range map[string]string{
		"listen.console": c.Listen.Console, "listen.pep": c.Listen.PEP, "listen.devices": c.Listen.Devices, "listen.ca": c.Listen.CA,
		"listen.enrol": c.Listen.Enrol, "listen.status": c.Listen.Status, "listen.metrics": c.Listen.Metrics,
	} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			bad(field, "%q is not host:port", addr)
		}
	}
	if c.Map.Outline != "" && c.Map.Attribution == "" {
		bad("map.attribution", "an outline needs its attribution; it is shown on the map")
	}
	if c.MemoryMiB != 0 && c.MemoryMiB < 64 {
		bad("memory_mib", "%d is under 64", c.MemoryMiB)
	}
	if c.Channel.HandshakesPerSecond < 1 {
		bad("channel.handshakes_per_second", "%d is under 1", c.Channel.HandshakesPerSecond)
	}
	if c.Telemetry.SampleInterval < time.Second {
		bad("telemetry.sample_interval", "%s is under 1 s", c.Telemetry.SampleInterval)
	}
	if u, err := url.Parse(c.DSN); err != nil || (u.Scheme != "sqlite" && u.Scheme != "postgres") {
		bad("dsn", "must be sqlite:///path or postgres://…")
	}
	if _, ok := logLevels[c.LogLevel]; !ok {
		bad("log_level", "%q is not debug, info, warn or error", c.LogLevel)
	}
	if _, err := c.Controller.WithDefaults(); err != nil {
		faults = append(faults, fmt.Errorf("controller: %w", err))
	}
	if err := c.Signer.validate(); err != nil {
		faults = append(faults, err)
	}
	for _, err := range []error{c.Agents.Validate(), c.ACME.Validate()} {
		if err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// redacted is c without the password of its DSN.
func (c Config) redacted() Config {
	if u, err := url.Parse(c.DSN); err == nil {
		c.DSN = u.Redacted()
	}
	return c
}

func newConfig() *cobra.Command {
	var path string
	var asJSON bool
	show := &cobra.Command{
		Use:     "show [DEVICE [N]]",
		Short:   "Print a configuration that a device ran, the newest or number N; without a device the controller's own, without secrets",
		Example: "  wardnet config show d-26740\n  wardnet config show d-26740 3\n  wardnet config show --config /etc/wardnet/wardnet.yaml",
		Args:    invalidArgs(cobra.RangeArgs(0, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return showConfig(cmd, args, asJSON)
			}
			data, err := cmd.Flags().GetString("data")
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("data") {
				data = ""
			}
			c, err := loadConfig(path, data)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, c.redacted())
			}
			enc := yaml.NewEncoder(cmd.OutOrStdout())
			defer enc.Close()
			return enc.Encode(c.redacted())
		},
	}
	show.Flags().StringVar(&path, "config", "", "configuration file")
	show.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return group("config", "Configurations: those that devices ran, and the controller's own", show, newConfigList(), newConfigDiff())
}
