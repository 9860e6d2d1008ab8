package console

import (
	"context"
	"fmt"
	"net/http"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// Issuing is the CA API towards services: the step CLI and ACME.
type Issuing interface {
	CA() client.CA
	Token(ctx context.Context, want client.NewServiceToken, by string) (client.ServiceToken, error)
	ACMEKey(ctx context.Context, want client.NewACMEKey) (client.ACMEKey, error)
}

func (c *Console) registerIssuing() {
	read(c, get("/ca", "get-ca", "certificates", "The root, its fingerprint, and where the CA API answers"), func(context.Context, *nothing) (*answer[client.CA], error) {
		i, err := c.issuing()
		if err != nil {
			return nil, err
		}
		return answered(i.CA(), nil)
	})
	op := post("/service-tokens", "create-service-token", "certificates", "Make a one-time token for the step CLI; it is shown once")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.serviceToken(false))
	op = post("/registrar-tokens", "create-registrar-token", "certificates", "Make a one-time token for a certificate that may make tokens itself")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.serviceToken(true))
	op = post("/acme-keys", "create-acme-key", "certificates", "Make a key that binds one ACME account; it is shown once")
	op.DefaultStatus = http.StatusCreated
	write(c, op, func(ctx context.Context, in *struct{ Body client.NewACMEKey }) (*answer[client.ACMEKey], error) {
		about(ctx, "acme-key")
		i, err := c.issuing()
		if err != nil {
			return nil, err
		}
		k, err := i.ACMEKey(ctx, in.Body)
		if err == nil {
			changed(ctx, nil, map[string]any{"kid": k.ID, "reference": in.Body.Reference}) // never the key
		}
		return answered(k, err)
	})
}

func (c *Console) issuing() (Issuing, error) {
	if c.deps.Issuing == nil {
		return nil, fmt.Errorf("%w: this controller has no CA API", inventory.ErrNotFound)
	}
	return c.deps.Issuing, nil
}

func (c *Console) serviceToken(registrar bool) func(context.Context, *struct{ Body client.NewServiceToken }) (*answer[client.ServiceToken], error) {
	return func(ctx context.Context, in *struct{ Body client.NewServiceToken }) (*answer[client.ServiceToken], error) {
		about(ctx, "service/"+clip(in.Body.Name))
		i, err := c.issuing()
		if err != nil {
			return nil, err
		}
		in.Body.Registrar = registrar // the path says it: its roles are others
		t, err := i.Token(ctx, in.Body, principal(ctx).Name)
		if err == nil {
			changed(ctx, nil, map[string]any{"names": t.Names, "expires": t.Expires}) // never the token
		}
		return answered(t, err)
	}
}
