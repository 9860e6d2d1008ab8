//go:build pkcs11

package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/p11key"
)

// openToken opens MODULE?token=LABEL&pin-file=FILE.
func openToken(text string) (enrol.Keystore, error) {
	module, query, _ := strings.Cut(text, "?")
	v, err := url.ParseQuery(query)
	if err != nil || v.Get("token") == "" || v.Get("pin-file") == "" {
		return nil, fmt.Errorf("%w: --keys pkcs11: token and pin-file must be given", inventory.ErrInvalid)
	}
	return p11key.Open(p11key.Config{Module: module, Token: v.Get("token"), PINFile: v.Get("pin-file")})
}
