package console

import (
	"context"
	"fmt"
	"net/http"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func (c *Console) registerRouters() {
	read(c, get("/routers", "list-routers", "devices", "Routers of the data centre, declared and observed"), func(ctx context.Context, _ *nothing) (*answer[[]client.Router], error) {
		r, ok := c.deps.Devices.(Routers)
		if !ok {
			return nil, fmt.Errorf("%w: this controller knows no routers", inventory.ErrNotFound)
		}
		return listed(r.Routers(ctx))
	})
	read(c, get("/ssh-trust", "get-ssh-trust", "devices", "What a router that is dialled must trust"), func(context.Context, *nothing) (*answer[client.SSHTrust], error) {
		s, err := c.ssh()
		if err != nil {
			return nil, err
		}
		return answered(s.Trust(), nil)
	})
	op := post("/routers/{id}/host-certificate", "create-host-certificate", "devices", "Certify a router's SSH host key")
	op.DefaultStatus = http.StatusCreated
	write(c, op, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"128"`
		Body client.NewHostCertificate
	},
	) (*answer[client.HostCertificate], error) {
		about(ctx, "router/"+in.ID)
		s, err := c.ssh()
		if err != nil {
			return nil, err
		}
		cert, err := s.CertifyHost(ctx, inventory.DeviceID(in.ID), in.Body)
		if err == nil {
			changed(ctx, nil, map[string]any{"until": cert.Until})
		}
		return answered(cert, err)
	})
}

func (c *Console) registerRouterServers() {
	op := post("/routers/{id}/server-certificate", "create-server-certificate", "devices", "Sign the TLS certificate of a router that is dialled by gNMI")
	op.DefaultStatus = http.StatusCreated
	write(c, op, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"128"`
		Body client.NewServerCertificate
	},
	) (*answer[client.ServiceCertificate], error) {
		about(ctx, "router/"+in.ID)
		s, err := c.ssh()
		if err != nil {
			return nil, err
		}
		cert, err := s.CertifyServer(ctx, inventory.DeviceID(in.ID), in.Body, principal(ctx).Name)
		if err == nil {
			changed(ctx, nil, map[string]any{"serial": cert.Serial, "not_after": cert.NotAfter})
		}
		return answered(cert, err)
	})
}

func (c *Console) ssh() (SSH, error) {
	if c.deps.SSH == nil {
		return nil, fmt.Errorf("%w: this controller dials no routers", inventory.ErrNotFound)
	}
	return c.deps.SSH, nil
}
