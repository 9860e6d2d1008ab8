package inventory

import "net/netip"

// PoolKind says what a pool's blocks are for.
type PoolKind string

// Kinds of pool. Site pools give one block per site, the rest single addresses
// or links.
const (
	PoolSite4     PoolKind = "site4"     // default 10.64.0.0/10 in /20
	PoolSite6     PoolKind = "site6"     // ULA /48 per region in /60 (16 × /64)
	PoolLoopback4 PoolKind = "loopback4" // /32 per device
	PoolTunnel4   PoolKind = "tunnel4"   // /31 per tunnel
)

// Pool is a source of addresses; several of one kind may exist, used in order
// of id.
type Pool struct {
	ID     PoolID       `yaml:"id" json:"id"`
	Kind   PoolKind     `yaml:"kind" json:"kind"`
	Prefix netip.Prefix `yaml:"prefix" json:"prefix"`
	// Bits is the prefix length of one allocation.
	Bits int `yaml:"bits" json:"bits"`
}

// Allocation binds a block to its owner for good. Owner is "site/<id>",
// "device/<id>" or "tunnel/<edge circuit>/<hub device>".
type Allocation struct {
	Owner  string       `yaml:"owner" json:"owner"`
	Pool   PoolID       `yaml:"pool" json:"pool"`
	Prefix netip.Prefix `yaml:"prefix" json:"prefix"`
}
