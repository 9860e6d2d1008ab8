package pki

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"golang.org/x/crypto/ssh"
)

// hostCertificate certifies the SSH host key that a device offers with its
// request, for the device's name, and no longer than its own certificate: who
// is revoked gets none that is newer, and the last one is over within its life.
// It gives a line of authorized_keys format. An unfit key keeps no device from
// its own certificate: it is logged, and there is none for it.
func (p *PKI) hostCertificate(ctx context.Context, c Certificate, line string) string {
	if line == "" || c.Device == "" {
		return ""
	}
	cert, err := p.certifyHostKey(ctx, c.Device, line, time.Until(c.NotAfter))
	if err != nil {
		p.deps.Log.WarnContext(ctx, "SSH host key not certified", "device", c.Device, "err", err)
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert)))
}

func (p *PKI) certifyHostKey(ctx context.Context, device inventory.DeviceID, line string, life time.Duration) (*ssh.Certificate, error) {
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("%w: the SSH host key is not one line of a public key", inventory.ErrInvalid)
	}
	return p.SignSSHHost(ctx, device, key, []string{string(device)}, life.Truncate(time.Second))
}
