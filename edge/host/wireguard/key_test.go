package wireguard

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"net/netip"
	"testing"
)

func newKey(tb testing.TB) (private, public string) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	e := base64.StdEncoding.EncodeToString
	return e(k.Bytes()), e(k.PublicKey().Bytes())
}

func prefixList(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}
