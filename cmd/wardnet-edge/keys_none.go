//go:build !pkcs11

package main

import (
	"fmt"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// openToken says that this program cannot.
func openToken(string) (enrol.Keystore, error) {
	return nil, fmt.Errorf("%w: this wardnet-edge was built without PKCS #11; build it with cgo and -tags pkcs11", inventory.ErrInvalid)
}
