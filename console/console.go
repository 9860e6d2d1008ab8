// Package console is Wardnet's HTTP API (OpenAPI 3.1 from the Go types), its
// live events, and the web console's files. Handlers hold no logic: they ask
// the nouns' packages, and every write leaves an audit entry.
package console

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
)

// Prefix is where the API lives.
const Prefix = "/api/v1"

// Deps are required unless said otherwise.
type Deps struct {
	Boots        Boots             // nil: nobody keeps them
	Replacements Replacements      // nil: no device can be replaced
	Tools        Tools             // nil: none run on devices
	Agents       Agents            // nil: no agent can be upgraded
	Drifts       Drifts            // nil: none are kept
	SSH          SSH               // nil: no router is dialled
	Configs      Configs           // nil: none are archived
	Search       CertificateSearch // nil: certificates are listed whole
	Admission    Admission         // nil: nobody decides about devices
	Issuing      Issuing           // nil: no CA API
	Issuers      Issuers           // nil: none are shown
	People       *people.Directory
	Audit        Audit
	Inventory    Inventory
	Devices      Devices
	Certificates Certificates
	Revisions    Revisions
	Rollouts     Rollouts
	Decisions    Decisions
	Subjects     Subjects
	Incidents    Incidents
	History      History
	Backup       Backup
	// BreakGlass is told of every connection root opens on the unix socket,
	// beside the audit entry. It must not block. Nil: the log alone.
	BreakGlass func(ctx context.Context, at time.Time)
	Files      fs.FS // web console; nil: the embedded one
	Log        *slog.Logger
	Reg        prometheus.Registerer // nil: metrics work, nobody collects them
}

func (d Deps) check() error {
	var missing []string
	v := reflect.ValueOf(d)
	for _, name := range []string{
		"People", "Audit", "Inventory", "Devices", "Certificates", "Revisions", "Rollouts",
		"Decisions", "Subjects", "Incidents", "History", "Backup", "Log",
	} {
		if v.FieldByName(name).IsNil() {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return fmt.Errorf("console: no %s in Deps", strings.Join(missing, ", "))
	}
	return nil
}

// Config holds the knobs; zero means default.
type Config struct {
	Version      string        // of the program, for the OpenAPI document
	MaxInventory int64         // bytes of an inventory document; default 32 MiB
	Refresh      time.Duration // how often changes are looked for; default 1 s
	Heartbeat    time.Duration // of event streams; default 15 s
	Queue        int           // events a slow client may fall behind; default 512
	Streams      int           // most event streams at once; default 256
	BodyTimeout  time.Duration // for a request's body, an inventory aside; default 30 s
	SendTimeout  time.Duration // for a client to take a piece of an answer; default 1 min
	// Outline is GeoJSON drawn on the map instead of the computed cells, with
	// the attribution its licence asks for. Empty: cells.
	Outline     []byte
	Attribution string
}

func (c Config) withDefaults() Config {
	if c.Version == "" {
		c.Version = "0.0.0"
	}
	if c.MaxInventory == 0 {
		c.MaxInventory = 32 << 20
	}
	if c.Refresh == 0 {
		c.Refresh = time.Second
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.Queue == 0 {
		c.Queue = 512
	}
	if c.Streams == 0 {
		c.Streams = 256
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 30 * time.Second
	}
	if c.SendTimeout == 0 {
		c.SendTimeout = time.Minute
	}
	return c
}

// Console serves the API and the web console.
type Console struct {
	deps    Deps
	cfg     Config
	api     huma.API
	handler http.Handler
	auditor *auditor
	hub     *hub
	metrics *metrics
	watch   watch
}

// New makes a Console. Run must run beside its handler.
func New(deps Deps, cfg Config) (*Console, error) {
	if err := deps.check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	c := &Console{deps: deps, cfg: cfg, metrics: newMetrics(deps.Reg)}
	c.auditor = newAuditor(deps.Audit, deps.Log, c.metrics)
	c.hub = newHub(cfg.Queue, cfg.Streams, c.metrics)
	if err := c.checkOutline(); err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	c.api = humago.NewWithPrefix(mux, Prefix, apiConfig(cfg.Version))
	c.api.UseMiddleware(c.guard)
	c.registerPeople()
	c.registerInventory()
	c.registerDevices()
	c.registerTools()
	c.registerCertificates()
	c.registerIssuing()
	c.registerIssuers()
	c.registerLife()
	c.registerIntent()
	c.registerAgents()
	c.registerDrift()
	c.registerBaskets()
	c.registerRouters()
	c.registerRouterServers()
	c.registerDecisions()
	c.registerIncidents()
	c.registerOverview()
	mux.HandleFunc(Prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, notFound(r.Method+" "+r.URL.Path))
	})
	files, err := c.files()
	if err != nil {
		return nil, err
	}
	mux.Handle("/", files)

	// Beside the CSRF token, which a login cannot have yet.
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &client.Problem{Status: http.StatusForbidden, Detail: "the request comes from another web site", Hint: "open the console itself and try there"}
		c.metrics.refused.WithLabelValues("cross_origin").Inc()
		t := trailOf(r.Context())
		t.op, t.from, t.object = "cross-origin", fromOf(r), clip(r.Method+" "+r.URL.Path)
		c.auditor.record(r.Context(), t, outcomeRefused, p.Detail)
		writeProblem(w, p)
	}))
	c.handler = c.outermost(origin.Handler(mux))
	return c, errors.Join(c.checkAccess())
}

// Handler serves the API under [Prefix] and the web console elsewhere.
func (c *Console) Handler() http.Handler { return c.handler }

// OpenAPI is the API's document.
func (c *Console) OpenAPI() *huma.OpenAPI { return c.api.OpenAPI() }

// Run looks for changes and sends them to the event streams until ctx ends.
func (c *Console) Run(ctx context.Context) error {
	defer c.hub.close()
	tick := time.NewTicker(c.cfg.Refresh)
	defer tick.Stop()
	for {
		c.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func apiConfig(version string) huma.Config {
	cfg := huma.DefaultConfig("Wardnet", version)
	cfg.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	cfg.CreateHooks = nil // no "$schema" member in every answer
	cfg.DocsPath = ""     // its page loads scripts from elsewhere
	cfg.SchemasPath = ""
	cfg.RejectUnknownQueryParameters = true // a misspelt filter would show everything
	cfg.Info.Description = "The management plane's API. Sign in for a cookie and send X-CSRF-Token with every write, or send an API token as Bearer."
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer", Description: "API token, " + people.TokenPrefix + "…"},
		"session": {Type: "apiKey", In: "cookie", Name: people.SessionCookie},
	}
	cfg.Security = []map[string][]string{{"token": {}}, {"session": {}}}
	return cfg
}

// schemaName keeps the console's Device apart from the inventory's.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if strings.HasSuffix(t.PkgPath(), "/inventory") && name != "Inventory" {
		return "Inventory" + name
	}
	return name
}
