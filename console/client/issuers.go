package client

import (
	"context"
	"net/http"
	"time"
)

// Issuer is an issuing CA with its generations.
type Issuer struct {
	Issuer      string       `json:"issuer"` // devices, services or hub
	Generations []Generation `json:"generations"`
	// Next is what 'rotate next' does: publish, switch or retire; empty: nothing.
	Next string `json:"next,omitempty"`
	// Held says why the next step has to wait; empty: it need not.
	Held string `json:"held,omitempty"`
	// Behind are who would be cut off by the next step: device ids or subjects.
	Behind []string `json:"behind"`
}

// Generation is one generation of an issuing CA. Times are left out until they
// come.
type Generation struct {
	Generation  int       `json:"generation"` // from 1
	State       string    `json:"state"`      // staged, published, active, draining, retired, distrusted
	KeyID       string    `json:"key_id"`
	StagedAt    time.Time `json:"staged_at"`
	PublishedAt time.Time `json:"published_at,omitzero"`
	ActiveAt    time.Time `json:"active_at,omitzero"`
	DrainingAt  time.Time `json:"draining_at,omitzero"`
	EndedAt     time.Time `json:"ended_at,omitzero"` // retired or distrusted
	By          string    `json:"by"`
	Reason      string    `json:"reason,omitempty"`
	Certificate string    `json:"certificate_pem,omitempty"`
	CSR         string    `json:"csr_pem,omitempty"` // waits for the root's signature
	Holders     []string  `json:"holders"`           // whose newest certificate is of it
	Drill       *Drill    `json:"drill,omitempty"`   // of a distrusted one
}

// Drill is how the holders of a distrusted generation come to new certificates;
// seconds since the distrust, left out when not reached yet.
type Drill struct {
	Affected  int      `json:"affected"`
	Rekeyed   int      `json:"rekeyed"`
	First     float64  `json:"first_seconds,omitempty"`
	Half      float64  `json:"half_seconds,omitempty"`
	P95       float64  `json:"p95_seconds,omitempty"`
	Last      float64  `json:"last_seconds,omitempty"`
	Remaining []string `json:"remaining"`
}

// RotateIssuer asks for a step of a rotation.
type RotateIssuer struct {
	Action string `json:"action" enum:"start,next,abort"`
	Reason string `json:"reason,omitempty" maxLength:"500"`
	Force  bool   `json:"force,omitempty" doc:"although somebody is cut off; needs a reason"`
}

// DistrustIssuer says that an issuer's key may be in other hands.
type DistrustIssuer struct {
	Reason string `json:"reason" maxLength:"500"`
	Staged bool   `json:"staged,omitempty" doc:"switch to the generation that is staged already"`
	DryRun bool   `json:"dry_run,omitempty" doc:"only tell what would happen"`
}

// Distrusted is what a distrust did, or would do.
type Distrusted struct {
	Issuer     string   `json:"issuer"`
	DryRun     bool     `json:"dry_run"`
	Distrusted []int    `json:"distrusted"` // generations
	Active     int      `json:"active"`     // generation that issues then
	Holders    []string `json:"holders"`    // who has to fetch a new certificate
	RootCRL    bool     `json:"root_crl"`   // the root's revocation list follows by itself
	Note       string   `json:"note,omitempty"`
	// Drill is the time line, for a caller who waited for it.
	Drill *Drill `json:"drill,omitempty"`
}

// IssuerCertificate is what the root signed elsewhere for a staged generation.
type IssuerCertificate struct {
	Generation  int    `json:"generation" minimum:"1"`
	Certificate string `json:"certificate_pem" maxLength:"20000"`
}

// RootCRL is a revocation list that the root signed elsewhere.
type RootCRL struct {
	CRL string `json:"crl_pem" maxLength:"200000"`
}

// Issuers tells where every issuing CA is.
func (c *Client) Issuers(ctx context.Context) ([]Issuer, error) {
	return read[[]Issuer](ctx, c, "/issuers", nil)
}

// RotateIssuer takes a step of a rotation; one that has to wait wraps [ErrHeld].
func (c *Client) RotateIssuer(ctx context.Context, issuer string, q RotateIssuer) (Issuer, error) {
	return write[Issuer](ctx, c, http.MethodPost, at("issuers", issuer, "rotate"), q)
}

// DistrustIssuer ends the trust in all that an issuer has certified so far.
func (c *Client) DistrustIssuer(ctx context.Context, issuer string, q DistrustIssuer) (Distrusted, error) {
	return write[Distrusted](ctx, c, http.MethodPost, at("issuers", issuer, "distrust"), q)
}

// AwaitRekeyed waits until every holder of an issuer's distrusted generations
// has a new certificate, or ctx ends, and gives the newest time line.
func (c *Client) AwaitRekeyed(ctx context.Context, issuer string) (*Drill, error) {
	var newest *Drill
	for {
		list, err := c.Issuers(ctx)
		switch {
		case ctx.Err() != nil:
			return newest, nil
		case err != nil:
			return nil, err
		}
		for _, i := range list {
			for _, g := range i.Generations {
				if i.Issuer == issuer && g.Drill != nil {
					newest = g.Drill
				}
			}
		}
		if newest == nil || len(newest.Remaining) == 0 {
			return newest, nil
		}
		select {
		case <-ctx.Done():
			return newest, nil
		case <-time.After(time.Second):
		}
	}
}

// InstallIssuer hands in the certificate of a staged generation.
func (c *Client) InstallIssuer(ctx context.Context, issuer string, q IssuerCertificate) (Issuer, error) {
	return write[Issuer](ctx, c, http.MethodPost, at("issuers", issuer, "certificate"), q)
}

// InstallRootCRL hands in the root's revocation list.
func (c *Client) InstallRootCRL(ctx context.Context, crlPEM string) ([]Issuer, error) {
	return write[[]Issuer](ctx, c, http.MethodPost, "/root-crl", RootCRL{CRL: crlPEM})
}
