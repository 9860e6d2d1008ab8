package console

import (
	"context"
	"fmt"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// Issuers are the issuing CAs: their rotation, and the end of the trust in one.
type Issuers interface {
	Issuers(ctx context.Context) ([]client.Issuer, error)
	Rotate(ctx context.Context, issuer string, q client.RotateIssuer, by string) (client.Issuer, error)
	Distrust(ctx context.Context, issuer string, q client.DistrustIssuer, by string) (client.Distrusted, error)
	Install(ctx context.Context, issuer string, q client.IssuerCertificate, by string) (client.Issuer, error)
	InstallRootCRL(ctx context.Context, crlPEM, by string) ([]client.Issuer, error)
}

func (c *Console) registerIssuers() {
	read(c, get("/issuers", "list-issuers", "issuers", "The issuing CAs, their generations and who depends on them"), func(ctx context.Context, _ *nothing) (*answer[[]client.Issuer], error) {
		i, err := c.issuers()
		if err != nil {
			return nil, err
		}
		return listed(i.Issuers(ctx))
	})
	write(c, post("/issuers/{issuer}/rotate", "rotate-issuer", "issuers", "Stage a new generation, publish it, switch to it, retire the old one"), c.rotateIssuer)
	write(c, post("/issuers/{issuer}/distrust", "distrust-issuer", "issuers", "End the trust in all that an issuer has certified so far"), c.distrustIssuer)
	write(c, post("/issuers/{issuer}/certificate", "install-issuer", "issuers", "Hand in the certificate that the root signed for a staged generation"), c.installIssuer)
	write(c, post("/root-crl", "install-root-crl", "issuers", "Hand in the revocation list that the root signed"), c.installRootCRL)
}

func (c *Console) issuers() (Issuers, error) {
	if c.deps.Issuers == nil {
		return nil, fmt.Errorf("%w: this controller shows no issuers", inventory.ErrNotFound)
	}
	return c.deps.Issuers, nil
}

func (c *Console) rotateIssuer(ctx context.Context, in *struct {
	Issuer string `path:"issuer" enum:"devices,services,hub"`
	Body   client.RotateIssuer
},
) (*answer[client.Issuer], error) {
	about(ctx, "issuer/"+in.Issuer)
	i, err := c.issuers()
	if err != nil {
		return nil, err
	}
	out, err := i.Rotate(ctx, in.Issuer, in.Body, principal(ctx).Name)
	if err == nil {
		changed(ctx, nil, map[string]any{"rotation": in.Body, "next": out.Next})
	}
	return answered(out, err)
}

func (c *Console) distrustIssuer(ctx context.Context, in *struct {
	Issuer string `path:"issuer" enum:"devices,services,hub"`
	Body   client.DistrustIssuer
},
) (*answer[client.Distrusted], error) {
	about(ctx, "issuer/"+in.Issuer)
	i, err := c.issuers()
	if err != nil {
		return nil, err
	}
	out, err := i.Distrust(ctx, in.Issuer, in.Body, principal(ctx).Name)
	if err == nil {
		changed(ctx, nil, map[string]any{"distrust": in.Body, "generations": out.Distrusted, "holders": len(out.Holders)})
	}
	return answered(out, err)
}

func (c *Console) installIssuer(ctx context.Context, in *struct {
	Issuer string `path:"issuer" enum:"devices,services,hub"`
	Body   client.IssuerCertificate
},
) (*answer[client.Issuer], error) {
	about(ctx, "issuer/"+in.Issuer)
	i, err := c.issuers()
	if err != nil {
		return nil, err
	}
	out, err := i.Install(ctx, in.Issuer, in.Body, principal(ctx).Name)
	if err == nil {
		changed(ctx, nil, map[string]any{"generation": in.Body.Generation})
	}
	return answered(out, err)
}

func (c *Console) installRootCRL(ctx context.Context, in *struct{ Body client.RootCRL }) (*answer[[]client.Issuer], error) {
	about(ctx, "issuer/root")
	i, err := c.issuers()
	if err != nil {
		return nil, err
	}
	return listed(i.InstallRootCRL(ctx, in.Body.CRL, principal(ctx).Name))
}
