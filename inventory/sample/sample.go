// Package sample holds the demo inventory: the 168 wards, communes and the
// special zone of Ho Chi Minh City, 38 modelled branches and 2 modelled hubs.
// Sources, licence and the model of circuits are told at the head of hcmc.yaml.
package sample

import (
	"bytes"
	_ "embed"
	"fmt"
	"sync"

	"github.com/wardnet/wardnet/inventory"
)

//go:embed hcmc.yaml
var hcmc []byte

// City returns the demo inventory, normalized, valid, with every address
// allocated and its profiles written out. The caller owns the result.
func City() inventory.Inventory { return city().Normalize() }

// Written is [City] as people write it: with profiles.
func Written() inventory.Inventory { return written().Normalize() }

var city = sync.OnceValue(func() inventory.Inventory {
	inv, err := inventory.Expand(written())
	if err != nil {
		panic(fmt.Sprintf("sample: write the profiles out: %v", err))
	}
	return inv.Normalize()
})

var written = sync.OnceValue(func() inventory.Inventory {
	inv, err := inventory.Decode("hcmc.yaml", bytes.NewReader(hcmc))
	if err == nil {
		inv, err = inventory.Adopt(inventory.Inventory{}, inv)
	}
	if err != nil {
		panic(fmt.Sprintf("sample: the embedded inventory: %v", err)) // a test decodes it
	}
	return inv
})

// Document returns the YAML document behind [Written], with its comments.
func Document() []byte { return bytes.Clone(hcmc) }
