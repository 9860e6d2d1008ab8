package console

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
)

// access is the whole table of who may do what: operation id → roles. A test
// and [New] compare it with the OpenAPI document: an operation without a row is
// not served, a row without an operation is a mistake. Change it in review only.
var access = map[string][]client.Role{
	// Anybody, signed in or not.
	"login": anybody,
	"setup": anybody,

	// Everybody who is signed in: oneself, and the city at a glance.
	"get-session":     everyone,
	"logout":          everyone,
	"change-password": everyone,
	"list-tokens":     everyone, // the own; an administrator sees all
	"create-token":    everyone,
	"delete-token":    everyone,
	"get-summary":     everyone,
	"get-map":         everyone,
	"list-units":      everyone,
	"list-events":     everyone, // each event only to those who may read its noun

	// People: the administrator, and nothing else.
	"list-users":    {client.RoleAdmin, client.RoleAuditor},
	"create-user":   {client.RoleAdmin},
	"update-user":   {client.RoleAdmin},
	"create-backup": {client.RoleAdmin},
	"list-audit":    {client.RoleAdmin, client.RoleSecurity, client.RoleAuditor},

	// The network, to look at.
	"get-inventory":            readers,
	"list-sites":               readers,
	"get-site":                 readers,
	"list-devices":             readers,
	"get-device":               readers,
	"get-device-timeline":      readers,
	"list-circuits":            readers,
	"list-applications":        readers,
	"list-certificates":        readers,
	"get-certificate":          readers,
	"get-certificate-forecast": readers,
	"list-pending-devices":     readers,
	"list-quarantine":          readers,
	"list-revisions":           readers,
	"get-revision":             readers,
	"get-plan":                 readers,
	"list-rollouts":            readers,
	"get-rollout":              readers,
	"list-routers":             readers,
	"list-baskets":             readers,
	"get-basket":               readers,
	"get-ssh-trust":            readers,
	"list-issuers":             readers,
	"get-ca":                   everyone,
	"list-drifts":              readers,
	"get-drift":                readers,
	"list-configs":             readers,
	"get-config":               readers,
	"diff-configs":             readers,
	"list-agents":              append([]client.Role{client.RoleAdmin}, readers...),
	"list-agent-rollouts":      readers,
	"get-agent-rollout":        readers,
	"list-incidents":           readers,
	"get-incident":             readers,
	"list-findings":            readers,
	"get-series":               readers,

	// The network, to change.
	"put-inventory":            {client.RoleEngineer},
	"create-enrolment":         {client.RoleEngineer},
	"create-offline-enrolment": {client.RoleEngineer},
	"confirm-device":           {client.RoleEngineer, client.RoleSecurity},
	"release-device":           {client.RoleSecurity}, // it widens what the network lets pass
	"replace-device":           {client.RoleEngineer},
	"create-revision":          {client.RoleEngineer},
	"create-basket":            {client.RoleEngineer},
	"add-basket":               {client.RoleEngineer},
	"take-basket":              {client.RoleEngineer},
	"submit-basket":            {client.RoleEngineer},
	"drop-basket":              {client.RoleEngineer},
	"approve-revision":         {client.RoleEngineer, client.RoleSecurity},
	"waive-revision":           {client.RoleSecurity}, // to let pass what no permit names
	"start-rollout":            {client.RoleEngineer},
	"resume-rollout":           {client.RoleEngineer},
	"pause-rollout":            {client.RoleEngineer, client.RoleNOC}, // stopping is urgent
	"abort-rollout":            {client.RoleEngineer, client.RoleNOC},
	"revert-drift":             {client.RoleEngineer, client.RoleNOC}, // back to what was approved
	"adopt-drift":              {client.RoleEngineer},                 // the revision still needs its approval
	"waive-drift":              {client.RoleEngineer, client.RoleSecurity},

	"add-agent":            {client.RoleAdmin}, // what runs as root on every edge
	"start-agent-rollout":  {client.RoleEngineer},
	"resume-agent-rollout": {client.RoleEngineer},
	"pause-agent-rollout":  {client.RoleEngineer, client.RoleNOC},
	"abort-agent-rollout":  {client.RoleEngineer, client.RoleNOC},

	// Looking at the network from a device. Packets may hold what people say:
	// more than their headers is an administrator's to ask for.
	"ping-device":    {client.RoleNOC, client.RoleEngineer},
	"trace-device":   {client.RoleNOC, client.RoleEngineer},
	"capture-device": {client.RoleEngineer, client.RoleAdmin},

	"ack-incident":     {client.RoleNOC, client.RoleEngineer},
	"assign-incident":  {client.RoleNOC, client.RoleEngineer},
	"resolve-incident": {client.RoleNOC, client.RoleEngineer},

	// Zero Trust: decisions name persons.
	"list-decisions":             {client.RoleSecurity, client.RoleAuditor},
	"get-decision":               {client.RoleSecurity, client.RoleAuditor},
	"list-subjects":              {client.RoleSecurity, client.RoleAuditor},
	"put-subjects":               {client.RoleSecurity},
	"revoke-certificate":         {client.RoleSecurity},
	"create-host-certificate":    {client.RoleSecurity},
	"create-server-certificate":  {client.RoleSecurity},
	"create-service-certificate": {client.RoleSecurity},
	"rotate-issuer":              {client.RoleSecurity},
	"distrust-issuer":            {client.RoleSecurity}, // takes every device's certificate
	"install-issuer":             {client.RoleSecurity},
	"install-root-crl":           {client.RoleSecurity},
	"create-service-token":       {client.RoleSecurity},
	"create-registrar-token":     {client.RoleSecurity}, // whoever holds it certifies any service
	"create-acme-key":            {client.RoleSecurity},
}

var (
	anybody  = []client.Role{}
	everyone = people.AllRoles
	readers  = []client.Role{client.RoleEngineer, client.RoleSecurity, client.RoleNOC, client.RoleAuditor}
)

// eventAccess says which operation's row guards an event.
var eventAccess = map[string]string{
	"summary":  "get-summary",
	"device":   "list-devices",
	"router":   "list-routers",
	"drift":    "list-drifts",
	"basket":   "list-baskets",
	"rollout":  "list-rollouts",
	"incident": "list-incidents",
	"decision": "list-decisions",
}

// may says whether p holds a role of operation's row. No row: nobody.
func may(p people.Principal, operation string) bool {
	return p.Has(access[operation]...)
}

// isPublic says whether operation needs no principal.
func isPublic(operation string) bool {
	roles, ok := access[operation]
	return ok && len(roles) == 0
}

// isWrite says whether an operation is audited and needs the CSRF token.
func isWrite(op *huma.Operation) bool {
	return op.Method != http.MethodGet && op.Method != http.MethodHead
}

// checkAccess compares the table with what is served.
func (c *Console) checkAccess() error {
	served := map[string]bool{}
	for path, item := range c.api.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			served[op.OperationID] = true
			if _, ok := access[op.OperationID]; !ok {
				return fmt.Errorf("console: operation %s (%s %s) has no row in the access table", op.OperationID, op.Method, path)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(access)) {
		if !served[id] {
			return fmt.Errorf("console: the access table has a row for %s, which is not served", id)
		}
	}
	return nil
}

func roleNames(roles []client.Role) string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}
