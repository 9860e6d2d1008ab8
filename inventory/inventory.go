// Package inventory names the things Wardnet manages: units, sites, devices,
// circuits, segments, applications and addresses. It imports nothing of ours;
// every other package may import it.
package inventory

import "errors"

// Sentinels a caller may branch on. Everything else is a plain failure.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("invalid")
	ErrConflict = errors.New("conflict") // someone else wrote first; reload and retry
)

// Typed identifiers. All are stable, sortable strings chosen once; none is a
// name and none is reused (design: "nothing is keyed by name").
type (
	// OrgID is the owner organisation of a row, e.g. "hcmc".
	OrgID string
	// UnitID names an organisation, e.g. "u-26740"; it survives code changes.
	UnitID string
	// SiteID names a place on the network, e.g. "s-26740" or "hub-1".
	SiteID string
	// DeviceID is the stable name of one device and the last path element of
	// its SPIFFE ID; renaming a device means enrolling it again.
	DeviceID string
	// CircuitID names one WAN attachment, unique in the inventory.
	CircuitID string
	// CarrierID names a carrier, e.g. "vnpt".
	CarrierID string
	// ApplicationID names an application people reach.
	ApplicationID string
	// PoolID names an address pool.
	PoolID string
	// PermitID names one permission of the intent.
	PermitID string
)

// BitRate is in bits per second (decimal, as carriers sell it), never bytes.
type BitRate uint64

// Common multiples of [BitRate].
const (
	Kbps BitRate = 1000
	Mbps         = 1000 * Kbps
	Gbps         = 1000 * Mbps
)

// Inventory is one complete, consistent declaration of everything Wardnet
// manages. It is a value: a change makes a new one, checked by Validate.
// Every slice is sorted by id after [Inventory.Normalize].
type Inventory struct {
	Org      OrgID     `yaml:"org" json:"org"`
	Units    []Unit    `yaml:"units" json:"units"`
	Carriers []Carrier `yaml:"carriers" json:"carriers"`
	// Profiles are what sites have in common; [Expand] writes them out.
	Profiles     []Profile     `yaml:"profiles,omitempty" json:"profiles,omitempty"`
	Sites        []Site        `yaml:"sites" json:"sites"`
	Devices      []Device      `yaml:"devices" json:"devices"`
	Routers      []Router      `yaml:"routers,omitempty" json:"routers,omitempty"`
	Circuits     []Circuit     `yaml:"circuits" json:"circuits"`
	Applications []Application `yaml:"applications" json:"applications"`
	Pools        []Pool        `yaml:"pools" json:"pools"`
	Allocations  []Allocation  `yaml:"allocations,omitempty" json:"allocations,omitempty"`
	Permits      []Permit      `yaml:"permits" json:"permits"`
}
