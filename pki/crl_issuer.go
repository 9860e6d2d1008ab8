package pki

import "crypto/x509"

// IssuerOf finds which generation of the issuing CAs signed the list, and gives
// its key id.
func (p *PKI) IssuerOf(list *x509.RevocationList) (keyID string, ok bool) {
	for _, g := range p.issuers.Load().list {
		if list.CheckSignatureFrom(g.cert) == nil {
			return g.KeyID, true
		}
	}
	return "", false
}
