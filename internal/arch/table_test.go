package arch

const module = "github.com/wardnet/wardnet/"

// mayImport is the whole dependency direction (design §2). The longest folder
// prefix of a package decides; an entry allows that folder and what is below
// it unless it ends in "$", which allows that one package only. cmd and tests
// may import anything.
var mayImport = map[string][]string{
	"inventory":        {},
	"inventory/intent": {"inventory$"},
	"inventory/sample": {"inventory$"},

	"edge":            {"inventory"},
	"edge/channel":    {"inventory", "edge$"},
	"edge/gnmi":       {"inventory", "edge$"},
	"edge/fake":       {"inventory", "edge$"},
	"edge/foreign":    {"inventory", "edge$", "edge/agent/commit$"},
	"edge/sshwire":    {"edge$"},
	"edge/redact":     {},
	"edge/openconfig": {"inventory", "edge$", "edge/foreign$"},
	"edge/cli":        {"inventory", "edge$", "edge/foreign$", "edge/sshwire$", "edge/redact$"},
	"edge/netconf":    {"inventory", "edge$", "edge/foreign$", "edge/sshwire$", "edge/yang$"},
	"edge/edgetest":   {"inventory", "edge", "controller"},
	"edge/agent":      {"inventory", "edge", "pki/enrol"},
	"edge/render":     {"inventory", "edge$"},
	"edge/upgrade":    {"inventory", "edge"},
	"edge/host":       {"inventory", "edge"},
	"edge/tool":       {"inventory", "edge"},

	"policy":    {"inventory"},
	"pki":       {"inventory"},
	"pki/enrol": {"inventory"},
	"telemetry": {"inventory"},
	"anomaly":   {"inventory", "telemetry"},
	"incident":  {"inventory", "anomaly"},

	"controller":     {"inventory", "policy", "pki", "edge"},
	"console/client": {"inventory"},
	"console/people": {"inventory", "console/client"},
	"console":        {"inventory", "policy", "pki", "edge", "telemetry", "anomaly", "incident", "controller", "console"},

	// labs runs the edge side only; the demo and the checks are API clients.
	"labs": {"inventory", "edge", "edge/agent", "edge/host", "telemetry", "anomaly", "incident", "console/client", "pki/enrol", "labs"},

	// The store implements the interfaces of the nouns it keeps; only cmd imports it.
	"internal/store":  {"inventory", "edge$", "edge/foreign$", "policy", "pki", "incident", "anomaly", "controller", "console/people", "console/client"},
	"internal/arch":   {},
	"internal/golden": {},
}

// ownSubfolders lists folders whose packages may import each other without a
// row: policy/rego belongs to policy, and so on.
var ownSubfolders = []string{"policy", "pki", "telemetry", "anomaly", "incident", "controller", "inventory/sample", "internal/store"}

// bannedNames say nothing about what a package provides.
var bannedNames = []string{"util", "utils", "common", "helpers", "misc", "types", "models", "manager"}

// notInEdge are dependencies that would make the edge binary too large or too
// dangerous for a small box (design §2), by import path prefix.
var notInEdge = map[string]string{
	"github.com/open-policy-agent/opa":            "decisions are made at the hub",
	"github.com/smallstep/certificates/authority": "the CA never runs on an edge",
	"github.com/prometheus/prometheus":            "history is kept at the hub",
	"modernc.org/sqlite":                          "an edge keeps files, no SQL engine",
	"github.com/jackc/pgx":                        "an edge keeps files, no SQL engine",
	"database/sql":                                "an edge keeps files, no SQL engine",
}

const (
	maxLines   = 400
	maxMethods = 5
)
