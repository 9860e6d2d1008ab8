package console

import (
	"context"
	"fmt"
	"net/http"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func (c *Console) registerRouters() {
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

func (c *Console) ssh() (SSH, error) {
	if c.deps.SSH == nil {
		return nil, fmt.Errorf("%w: this controller dials no routers", inventory.ErrNotFound)
	}
	return c.deps.SSH, nil
}
