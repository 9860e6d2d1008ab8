package main

import (
	"fmt"
	"strings"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/tpmkey"
)

// keysHelp is the help of --keys.
const keysHelp = `where the device's keys are: "file" (default), "tpm:PATH" such as tpm:/dev/tpmrm0, or "pkcs11:MODULE?token=LABEL&pin-file=FILE" (build tag pkcs11)`

// keystore opens what --keys names; nil is the identity's own file.
func keystore(flag string) (enrol.Keystore, error) {
	kind, rest, _ := strings.Cut(flag, ":")
	switch {
	case flag == "" || flag == "file":
		return nil, nil
	case kind == "tpm" && rest != "":
		return tpmkey.Open(rest)
	case kind == "pkcs11" && rest != "":
		return openToken(rest)
	}
	return nil, fmt.Errorf("%w: --keys %q is not file, tpm:PATH or pkcs11:MODULE?token=LABEL&pin-file=FILE", inventory.ErrInvalid, flag)
}
