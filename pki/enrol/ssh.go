package enrol

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Files that a renewal keeps for the device's sshd, in the identity's
// directory: HostCertificate and TrustedUserCAKeys of sshd_config(5).
const (
	SSHHostCertificateFile = "ssh_host_key-cert.pub"
	SSHUserCAFile          = "ssh_user_ca.pub"
)

// maxHostKey bounds a host key's line, in bytes.
const maxHostKey = 4096

// hostKey is the SSH host key to have certified; "" when there is none, which
// keeps no device from its own certificate.
func (c Client) hostKey() string {
	if c.SSHHostKey == "" {
		return ""
	}
	text, err := os.ReadFile(c.SSHHostKey)
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if err == nil && (line == "" || len(line) > maxHostKey) {
		err = errors.New("it is no public key")
	}
	if err != nil {
		if c.Log != nil {
			c.Log.Warn("SSH host key not offered", "path", c.SSHHostKey, "err", err)
		}
		return ""
	}
	return line
}

// keepSSH puts what came for sshd into dir; an answer without leaves the files
// that are there.
func (c Client) keepSSH(dir string, r Response) {
	for name, line := range map[string]string{SSHHostCertificateFile: r.SSHHostCertificate, SSHUserCAFile: r.SSHUserCA} {
		if c.SSHHostKey == "" || line == "" {
			continue
		}
		path := filepath.Join(dir, name)
		if have, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(have)) == strings.TrimSpace(line) {
			continue // not touched: something may watch it
		}
		if err := replaceFile(path, fmt.Appendln(nil, strings.TrimSpace(line))); err != nil && c.Log != nil {
			c.Log.Warn("SSH certificate not kept", "path", path, "err", err)
		}
	}
}
