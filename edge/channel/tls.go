package channel

import (
	"crypto/tls"
	"fmt"
	"slices"

	"github.com/wardnet/wardnet/inventory"
)

// serverTLS is cfg with what the channel insists on.
func serverTLS(cfg *tls.Config) (*tls.Config, error) {
	choose := cfg.GetConfigForClient
	out, err := insist(cfg)
	if err != nil {
		return nil, err
	}
	out.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		// Checked here, and not by the TLS stack alone, to know it from other faults.
		if !slices.Contains(hello.SupportedProtos, Protocol) || !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
			return nil, errProtocol
		}
		if choose == nil {
			return nil, nil
		}
		chosen, err := choose(hello)
		if err != nil || chosen == nil {
			return nil, err
		}
		return insist(chosen)
	}
	return out, nil
}

// insist makes sure that somebody verifies the client certificate: the TLS
// stack against ClientCAs, or else the caller's VerifyConnection.
func insist(cfg *tls.Config) (*tls.Config, error) {
	out := cfg.Clone()
	out.MinVersion = tls.VersionTLS13
	out.NextProtos = []string{Protocol}
	out.SessionTicketsDisabled = true // a resumed session would skip part of the checks
	switch {
	case cfg.ClientCAs != nil:
		out.ClientAuth = tls.RequireAndVerifyClientCert
	case cfg.VerifyConnection != nil:
		out.ClientAuth = max(cfg.ClientAuth, tls.RequestClientCert)
	default:
		return nil, fmt.Errorf("%w: management channel: TLS has neither ClientCAs nor VerifyConnection, so it would admit anybody", inventory.ErrInvalid)
	}
	if verify := cfg.VerifyConnection; verify != nil {
		out.VerifyConnection = func(st tls.ConnectionState) error {
			if err := verify(st); err != nil {
				return fmt.Errorf("%w: %w", errCertificate, err)
			}
			return nil
		}
	}
	return out, nil
}

// edgeTLS is the edge's cfg with what the channel insists on; an empty
// serverName keeps the one in cfg.
func edgeTLS(cfg *tls.Config, serverName string) *tls.Config {
	out := cfg.Clone()
	out.MinVersion = tls.VersionTLS13
	out.NextProtos = []string{Protocol}
	out.ServerName = or(serverName, out.ServerName)
	return out
}
