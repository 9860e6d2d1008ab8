package console

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// HostKeys is [SSH] over the PKI.
type HostKeys struct {
	pki *pki.PKI
	inv Inventory
}

// AdaptSSH serves the SSH CAs of p, and the certificates of the routers of inv.
func AdaptSSH(p *pki.PKI, inv Inventory) *HostKeys { return &HostKeys{p, inv} }

// Trust implements [SSH].
func (h *HostKeys) Trust() client.SSHTrust {
	line := func(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }
	return client.SSHTrust{UserCA: line(h.pki.SSHUserCA()), HostCA: line(h.pki.SSHHostCA()), Principal: pki.SSHPrincipal}
}

// hostDays is the life of a host certificate that names none.
const hostDays = 366

// CertifyHost implements [SSH]: the certificate is for the router's id, which is
// what the controller asks a host that it dials to be.
func (h *HostKeys) CertifyHost(ctx context.Context, router inventory.DeviceID, want client.NewHostCertificate) (client.HostCertificate, error) {
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(want.PublicKey))
	if err != nil || len(strings.TrimSpace(string(rest))) > 0 {
		return client.HostCertificate{}, fmt.Errorf("certify the host key of %s: %w: that is not one public key, as in ssh_host_ed25519_key.pub", router, inventory.ErrInvalid)
	}
	life := time.Duration(cmp.Or(want.Days, hostDays)) * 24 * time.Hour
	cert, err := h.pki.SignSSHHost(ctx, router, key, []string{string(router)}, life)
	if err != nil {
		return client.HostCertificate{}, err
	}
	return client.HostCertificate{
		Router: router, Certificate: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert))), Until: time.Unix(int64(cert.ValidBefore), 0).UTC(),
	}, nil
}

// CertifyServer implements [SSH].
func (h *HostKeys) CertifyServer(ctx context.Context, router inventory.DeviceID, want client.NewServerCertificate, by string) (client.ServiceCertificate, error) {
	inv, _, err := h.inv.Load(ctx)
	if err != nil {
		return client.ServiceCertificate{}, err
	}
	i := slices.IndexFunc(inv.Routers, func(r inventory.Router) bool { return r.ID == router })
	if i < 0 {
		return client.ServiceCertificate{}, fmt.Errorf("certify router %q: %w; declare it under routers", router, inventory.ErrNotFound)
	}
	host, _, err := net.SplitHostPort(inv.Routers[i].Management)
	if err != nil {
		return client.ServiceCertificate{}, fmt.Errorf("certify router %q: its management address: %w: %w", router, inventory.ErrInvalid, err)
	}
	c, err := h.pki.IssueRouter(ctx, pki.RouterRequest{Device: router, Host: host, CSR: want.CSR, TTL: time.Duration(want.Days) * 24 * time.Hour, By: by})
	if err != nil {
		return client.ServiceCertificate{}, err
	}
	return client.ServiceCertificate{Serial: c.Serial, ChainPEM: c.Chain, RootPEM: h.pki.RootPEM(), NotAfter: c.NotAfter}, nil
}
