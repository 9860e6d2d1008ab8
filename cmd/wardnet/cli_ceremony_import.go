package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/signer"
)

func importSigned(cmd *cobra.Command, c ceremony, args []string) (map[string]any, error) {
	text, err := os.ReadFile(args[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	b, _ := pem.Decode(text)
	if b == nil || (b.Type != "CERTIFICATE" && b.Type != "X509 CRL") {
		return nil, fmt.Errorf("%w: %s is neither a certificate nor a revocation list in PEM", inventory.ErrInvalid, args[0])
	}
	if b.Type == "X509 CRL" {
		return importCRL(cmd, c, b.Bytes, string(text))
	}
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil || len(cert.Subject.OrganizationalUnit) != 1 {
		return nil, fmt.Errorf("%w: %s is no issuer's certificate: %w", inventory.ErrInvalid, args[0], err)
	}
	issuer := cert.Subject.OrganizationalUnit[0]
	keyID, err := enrol.KeyID(cert.PublicKey)
	if err != nil {
		return nil, err
	}
	done := map[string]any{"issuer": issuer, "fingerprint": fingerprintOf(cert)}
	if c.dir != "" {
		done["next"] = "start the controller when devices, services and hub are done"
		return done, withSigner(c.dir, func(s *signer.Service) error {
			st, err := s.State(cmd.Context())
			if err != nil {
				return err
			}
			for _, i := range st.Issuers {
				if i.KeyID == keyID {
					done["generation"] = i.Generation
					_, err := s.Change(cmd.Context(), signer.Change{Action: signer.Install, Issuer: i.Issuer, Generation: i.Generation, Certificate: b.Bytes})
					return err
				}
			}
			return fmt.Errorf("%w: its key is not in %s", inventory.ErrNotFound, c.dir)
		})
	}
	list, err := issuersOf(cmd)
	if err != nil {
		return nil, err
	}
	for _, i := range list {
		for _, g := range i.Generations {
			if g.KeyID != keyID {
				continue
			}
			api, err := dial(cmd)
			if err != nil {
				return nil, err
			}
			defer api.Close()
			done["generation"], done["next"] = g.Generation, "wardnet cert rotate next "+issuer
			_, err = api.InstallIssuer(cmd.Context(), issuer, client.IssuerCertificate{Generation: g.Generation, Certificate: string(text)})
			return done, err
		}
	}
	return nil, fmt.Errorf("%w: no generation here has its key", inventory.ErrNotFound)
}

func importCRL(cmd *cobra.Command, c ceremony, der []byte, text string) (map[string]any, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	done := map[string]any{"issuer": "root", "entries": strconv.Itoa(len(list.RevokedCertificateEntries))}
	if c.dir != "" {
		return done, withSigner(c.dir, func(s *signer.Service) error {
			_, err := s.Change(cmd.Context(), signer.Change{Action: signer.InstallRootCRL, Issuer: signer.Root, CRL: der})
			return err
		})
	}
	api, err := dial(cmd)
	if err != nil {
		return nil, err
	}
	defer api.Close()
	_, err = api.InstallRootCRL(cmd.Context(), text)
	return done, err
}
