package pki

import "crypto/x509"

// IssuerOf finds which of the issuing CAs signed the list, and gives its key id.
func (p *PKI) IssuerOf(list *x509.RevocationList) (keyID string, ok bool) {
	for _, c := range p.cas {
		if list.CheckSignatureFrom(c.cert) == nil {
			return c.keyID, true
		}
	}
	return "", false
}
