// Package enrol is the device's side of Wardnet's PKI: it makes the device's
// keys, exchanges a one-time token for a certificate, keeps the identity on
// disk and renews it. It is small on purpose, for it runs on every edge: no CA
// code and no database. The wire types are shared with the controller's side.
package enrol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Paths of the two operations, below the enrolment and the CA base URL.
const (
	EnrolPath = "/v1/enrol"
	RenewPath = "/v1/renew"
)

// MaxBody bounds a request and a response, in bytes.
const MaxBody = 32 << 10

// Request asks for the first certificate of a device. The token is the only
// authentication, which is why it travels in the body of a TLS request and
// never in a URL.
type Request struct {
	Token  string `json:"token"`
	Serial string `json:"serial"` // the hardware's, as the inventory has it
	CSR    string `json:"csr"`    // PEM
	// WireGuardPublicKey is base64, 32 bytes, bound to the certificate.
	WireGuardPublicKey string `json:"wireguard_public_key"`
	// Timeline is what the device saw of its boot so far, at most 8 KiB; it
	// decides nothing.
	Timeline []Step    `json:"timeline,omitempty"`
	Time     time.Time `json:"time,omitzero"` // the device's clock; zero: an older agent
	// SSHHostKey is the device's SSH host key, one line of authorized_keys
	// format; empty: it has none to certify.
	SSHHostKey string `json:"ssh_host_key,omitempty"`
}

// RenewRequest asks for the next certificate of the device that presents its
// current one in TLS.
type RenewRequest struct {
	CSR                string    `json:"csr"`
	WireGuardPublicKey string    `json:"wireguard_public_key"`
	Time               time.Time `json:"time,omitzero"`          // the device's clock
	SSHHostKey         string    `json:"ssh_host_key,omitempty"` // see [Request]
}

// Response carries the certificate and what the device pins with it.
type Response struct {
	Certificate string   `json:"certificate"` // PEM: leaf, then its issuer
	Root        string   `json:"root"`        // PEM
	HubPins     []string `json:"hub_pins"`    // [KeyID] of the issuers of the controller's own certificates
	// PinsSignature covers [PinsPayload], by the checkpoint key TimeKey.
	PinsSignature []byte `json:"hub_pins_signature,omitempty"`
	// Keys are the controller's public signing keys, PEM, by purpose.
	Keys    map[string][]string `json:"keys"`
	Channel string              `json:"channel"` // host:port of the management channel
	CAURL   string              `json:"ca_url"`  // base URL for renewal
	// SSHHostCertificate is of the host key that the request offered, and
	// SSHUserCA whom sshd may let in, each a line of authorized_keys format.
	SSHHostCertificate string `json:"ssh_host_certificate,omitempty"`
	SSHUserCA          string `json:"ssh_user_ca,omitempty"`
	// Time is the controller's clock; TimeSignature by the checkpoint key
	// TimeKey covers [TimePayload].
	Time          time.Time `json:"time"`
	TimeKey       string    `json:"time_key"`
	TimeSignature []byte    `json:"time_signature"`
}

// Error is the body of a refusal.
type Error struct {
	Message string `json:"error"`
	Reason  string `json:"reason"` // from a closed list, for machines
}

// TimePayload is what a signed time covers; the hash of the CSR keeps an old
// answer from being replayed.
func TimePayload(csrHash string, at time.Time) []byte {
	return fmt.Appendf(nil, "wardnet-time/1\n%s\n%s\n", csrHash, at.UTC().Format(time.RFC3339Nano))
}

// DecodeRequest reads one Request; trailing data, empty fields and bodies over
// [MaxBody] are refused with [inventory.ErrInvalid]. Fields we do not know are
// left out: a newer agent may tell more.
func DecodeRequest(r io.Reader) (Request, error) {
	var q Request
	if err := decode(r, &q); err != nil {
		return Request{}, fmt.Errorf("enrolment request: %w", err)
	}
	for _, f := range []struct{ name, value string }{
		{"token", q.Token}, {"serial", q.Serial}, {"csr", q.CSR}, {"wireguard_public_key", q.WireGuardPublicKey},
	} {
		if f.value == "" {
			return Request{}, fmt.Errorf("enrolment request: %w: %s is missing", inventory.ErrInvalid, f.name)
		}
	}
	return q, nil
}

// DecodeRenewRequest reads one RenewRequest as [DecodeRequest] does.
func DecodeRenewRequest(r io.Reader) (RenewRequest, error) {
	var q RenewRequest
	if err := decode(r, &q); err != nil {
		return RenewRequest{}, fmt.Errorf("renewal request: %w", err)
	}
	if q.CSR == "" || q.WireGuardPublicKey == "" {
		return RenewRequest{}, fmt.Errorf("renewal request: %w: csr and wireguard_public_key must be given", inventory.ErrInvalid)
	}
	return q, nil
}

func decode(r io.Reader, into any) error {
	body, err := io.ReadAll(io.LimitReader(r, MaxBody+1))
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if len(body) > MaxBody {
		return fmt.Errorf("%w: body is over %d bytes", inventory.ErrInvalid, MaxBody)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(into); err != nil {
		// Not %w: the text of a JSON error may hold a piece of the token.
		return fmt.Errorf("%w: body is not the expected JSON object", inventory.ErrInvalid)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: data after the JSON object", inventory.ErrInvalid)
	}
	return nil
}

// replaceFile puts content at path so that a power cut leaves the old content
// or the new, never a piece; only the owner may read it.
func replaceFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already unless a step below failed
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes renames and removals in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
