package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/labs/clibox"
)

// The playbook speaks to vtysh by raw commands over one kept ssh connection for
// each box: nothing runs on the box but vtysh, and on this side nothing but
// ansible's own workers and ssh, which is the least that ansible can do. A box
// that has all lines is left alone.
const changePlaybook = `- hosts: all
  gather_facts: false
  tasks:
    - name: read
      ansible.builtin.raw: show running-config
      register: before
      changed_when: false
    - name: change
      ansible.builtin.raw: "configure terminal\n{{ lines | join('\n') }}"
      when: lines | difference(before.stdout_lines | map('trim') | list)
      register: change
      failed_when: change.rc != 0 or '% ' in change.stdout
    - name: read back
      ansible.builtin.raw: show running-config
      register: after
      changed_when: false
      when: change is changed
    - name: compare
      ansible.builtin.assert:
        that: not lines | difference((after if change is changed else before).stdout_lines | map('trim') | list)
        quiet: true
`

// ansibleConfig has what makes ansible fast, and nothing that it does not need.
const ansibleConfig = `[defaults]
forks = %[1]d
gathering = explicit
host_key_checking = true
interpreter_python = none
nocows = true
retry_files_enabled = false
local_tmp = %[2]s/tmp

[ssh_connection]
pipelining = true
use_tty = false
control_path_dir = %[2]s/cp
ssh_args = -F none -o ControlMaster=auto -o ControlPersist=600s -o PreferredAuthentications=publickey -o IdentitiesOnly=yes -o UserKnownHostsFile=%[2]s/known_hosts -o GlobalKnownHostsFile=none -o HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com
`

// playbook writes ansible's files: the login, the boxes with their lines, and
// the play.
func (c *contest) playbook() error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	private, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	cert, err := c.certificate(c.userCA, ssh.UserCert, signer.PublicKey(), clibox.Principal)
	if err != nil {
		return err
	}
	hosts := map[string]any{}
	for i := range c.boxes {
		hosts[string(boxID(i))] = map[string]any{"ansible_host": boxAddr(i), "lines": c.lines[i]}
	}
	inventory, err := json.Marshal(map[string]any{"all": map[string]any{
		"hosts": hosts,
		"vars":  map[string]any{"ansible_user": clibox.User, "ansible_ssh_private_key_file": filepath.Join(c.dir, "login")},
	}})
	if err != nil {
		return err
	}
	var errs []error
	for name, content := range map[string][]byte{
		"login": pem.EncodeToMemory(private), "login-cert.pub": ssh.MarshalAuthorizedKey(cert),
		"known_hosts": append([]byte("@cert-authority * "), ssh.MarshalAuthorizedKey(c.hostCA.PublicKey())...),
		"hosts.json":  inventory, "change.yaml": []byte(changePlaybook), "ansible.cfg": fmt.Appendf(nil, ansibleConfig, ansibleBoxes, c.dir),
	} {
		errs = append(errs, os.WriteFile(filepath.Join(c.dir, name), content, 0o600))
	}
	return errors.Join(errs...)
}

func newCA() (ssh.Signer, []byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	return signer, pem.EncodeToMemory(block), err
}

func (c *contest) certificate(ca ssh.Signer, kind uint32, pub ssh.PublicKey, principals ...string) (*ssh.Certificate, error) {
	cert := &ssh.Certificate{
		Key: pub, CertType: kind, ValidPrincipals: principals,
		ValidAfter: uint64(time.Now().Add(-time.Minute).Unix()), ValidBefore: uint64(time.Now().Add(12 * time.Hour).Unix()),
	}
	if kind == ssh.UserCert {
		cert.Permissions.Extensions = map[string]string{"permit-pty": ""}
	}
	return cert, cert.SignCert(rand.Reader, ca)
}

// plumb joins all boxes by a bridge in the tools' namespace.
func (c *contest) plumb(ctx context.Context) error {
	var made, joined strings.Builder
	fmt.Fprintf(&made, "netns add %s\n", c.noc)
	joined.WriteString("link set lo up\nlink add br0 type bridge\naddr add 10.255.0.1/24 dev br0\nlink set br0 up\n")
	for i := range ansibleBoxes {
		fmt.Fprintf(&made, "netns add %s\n", c.space(i))
		fmt.Fprintf(&joined, "link add e%d type veth peer name wan netns %s\nlink set e%d master br0 up\n", i, c.space(i), i)
	}
	batch := func(space, lines string) error {
		path := filepath.Join(c.dir, "batch")
		if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
			return err
		}
		argv := []string{"ip", "-batch", path}
		if space != "" {
			argv = []string{"ip", "-n", space, "-batch", path}
		}
		if r, err := c.env.command(ctx, argv...); err != nil || r.code != 0 {
			return fmt.Errorf("ip -batch in %q: exit %d: %w", space, r.code, errors.Join(err, errors.New(r.errOut)))
		}
		return nil
	}
	if err := errors.Join(batch("", made.String()), batch(c.noc, joined.String())); err != nil {
		return err
	}
	for i := range ansibleBoxes {
		if err := batch(c.space(i), fmt.Sprintf("link set lo up\naddr add %s/24 dev wan\nlink set wan up\n", boxAddr(i))); err != nil {
			return err
		}
	}
	return nil
}
