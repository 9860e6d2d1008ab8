//go:build lab

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/gnmibox"
	"github.com/wardnet/wardnet/labs/ncbox"
	"github.com/wardnet/wardnet/pki/enrol"
)

// openConfigBox is a simulated router that is driven over gNMI.
type openConfigBox struct{ *gnmibox.Device }

const (
	inPolicy = "routing-policy/policy-definitions/policy-definition[name=wardnet-in-" + sessionID + "]/statements/statement[name=preference]/actions/bgp-actions/config/set-local-pref"
	bgpPath  = "network-instances/network-instance[name=DEFAULT]/protocols/protocol[identifier=BGP][name=BGP]/bgp"
)

var localPref = regexp.MustCompile(`"set-local-pref": (\d+)`)

func (b openConfigBox) preference() string {
	m := localPref.FindStringSubmatch(b.Text())
	if m == nil {
		return "none"
	}
	return m[1]
}

func (b openConfigBox) prefer(t *testing.T, value string) {
	t.Helper()
	if err := b.Edit(func(s *gnmibox.Store) error { return s.Set(inPolicy, json.Number(value)) }); err != nil {
		t.Fatal(err)
	}
}

func (b openConfigBox) plant(t *testing.T, secret string) string {
	t.Helper()
	if err := b.Edit(func(s *gnmibox.Store) error {
		return s.Set(bgpPath+"/neighbors/neighbor[neighbor-address=192.0.2.77]/config", map[string]any{
			"neighbor-address": "192.0.2.77", "peer-as": json.Number("65099"), "description": "transit", "auth-password": secret,
		})
	}); err != nil {
		t.Fatal(err)
	}
	return "192.0.2.77"
}

// serveTLS serves the device with a certificate of the controller's, which it
// asks for as a person would, and lets in who has one of its clients'.
func (tw *town) serveTLS(t *testing.T, d *gnmibox.Device, ln net.Listener) {
	t.Helper()
	key, err := enrol.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	cert, err := tw.security.CertifyServer(t.Context(), routerID, client.NewServerCertificate{CSR: csr})
	if err != nil {
		t.Fatal(err)
	}
	pair := tls.Certificate{PrivateKey: key}
	for rest := []byte(cert.ChainPEM); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		pair.Certificate = append(pair.Certificate, block.Bytes)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert.RootPEM))
	stop := d.Serve(ln, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if ids := cs.PeerCertificates[0].URIs; len(ids) != 1 || !strings.HasSuffix(ids[0].Path, "/service/controller") {
				return fmt.Errorf("%v is not the controller", ids)
			}
			return nil
		},
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

const emulated = "cannot take an unconfirmed change back by itself"

// A router of OpenConfig through the controller, end to end, on simulated devices
// that differ as real ones do.
func TestRouterOpenConfig(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		habits   gnmibox.Habits
		foreseen string
		limits   []string
	}{
		"no Get, JSON_IETF only, no commit-confirm": {gnmibox.Habits{NoGet: true, Encoding: "JSON_IETF", Names: "modules", Serial: "SN-1"}, emulated, []string{emulated, "BFD is on with the device's own intervals"}},
		"no Capabilities, JSON with bare names":     {gnmibox.Habits{NoCapabilities: true, Encoding: "JSON", Names: "bare", Commit: true, Form: "leaves"}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			tw := newTown(t, inventory.Router{Platform: inventory.PlatformOpenConfig, Management: ln.Addr().String()})
			d, err := gnmibox.New(tt.habits)
			if err != nil {
				t.Fatal(err)
			}
			tw.serveTLS(t, d, ln)
			tw.edges(t)
			b := openConfigBox{d}
			tw.story(t, b, tt.foreseen, tt.limits...)
			tw.sessions(t, b)
		})
	}
}

// sessions holds the controller to confirming nothing that costs the router its
// session with the hub.
func (tw *town) sessions(t *testing.T, b openConfigBox) {
	t.Helper()
	var lost atomic.Bool
	b.Sessions(func(string) string {
		if lost.Load() {
			return "ACTIVE"
		}
		return "ESTABLISHED"
	})
	b.Fail(func(string, *gnmibox.Store) error { lost.Store(true); return nil })
	plain := func(inv *inventory.Inventory) { inv.Routers[0].Override, inv.Routers[0].OverrideReason = "", "" }
	tw.edit(t, plain)
	roll := tw.out(t, tw.revise(t, "Trở lại ưu tiên cũ"))
	if want := "1 BGP sessions are not established (" + sessionID + ")"; roll.State == "done" || !strings.Contains(roll.Reason, want) {
		t.Errorf("the rollout ended as %s: %s; want %q", roll.State, roll.Reason, want)
	}
	until(t, soon, "the router put back", func(context.Context) bool { return b.preference() == "8" })
	b.Fail(nil)
	b.Sessions(nil)
	tw.mustOut(t, tw.revise(t, "Trở lại ưu tiên cũ, lần nữa"))
	if got := b.preference(); got != "100" {
		t.Errorf("the router has preference %s", got)
	}
}

// netconfBox is a router that is driven over NETCONF.
type netconfBox struct{ *ncbox.Box }

const (
	routerNS = "https://wardnet.dev/yang/wardnet-router"
	systemNS = "urn:ietf:params:xml:ns:yang:ietf-system"
)

var prefers = regexp.MustCompile(`<preference>(\d+)</preference>`)

func (b netconfBox) preference() string {
	got, err := b.Ask(context.Background(), `<get-config><source><running/></source><filter type="subtree"><router xmlns="`+routerNS+`"/></filter></get-config>`)
	if err != nil {
		return err.Error()
	}
	m := prefers.FindStringSubmatch(got[0])
	if m == nil {
		return "none"
	}
	return m[1]
}

func (b netconfBox) change(t *testing.T, config string) {
	t.Helper()
	edit := `<edit-config><target><candidate/></target><default-operation>merge</default-operation><config>` + config + `</config></edit-config>`
	if _, err := b.Ask(t.Context(), edit, "<commit/>"); err != nil {
		t.Fatal(err)
	}
}

func (b netconfBox) prefer(t *testing.T, value string) {
	t.Helper()
	b.change(t, `<router xmlns="`+routerNS+`"><bgp><neighbour><tunnel>`+sessionID+`</tunnel><preference>`+value+`</preference></neighbour></bgp></router>`)
}

func (b netconfBox) plant(t *testing.T, secret string) string {
	t.Helper()
	b.change(t, `<system xmlns="`+systemNS+`"><authentication><user><name>noc-7</name><password>$0$`+secret+`</password></user></authentication></system>`)
	return "noc-7"
}

// A router of NETCONF through the controller, end to end: netconfd behind sshd.
func TestRouterNETCONF(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: sshd and netconfd are started as root, and this is not root")
	}
	if missing := ncbox.Missing(); len(missing) > 0 {
		t.Skipf("NOT RUN: %s missing; install the Debian packages openssh-server and netconfd", strings.Join(missing, ", "))
	}
	if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
		t.Skipf("NOT RUN: no mount namespace can be made here: %v", err)
	}
	port, err := ncbox.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	tw := newTown(t, inventory.Router{Platform: inventory.PlatformNETCONF, Management: "127.0.0.1:" + port, User: ncbox.User})
	trust, err := tw.security.SSHTrust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ca, _, _, _, err := ssh.ParseAuthorizedKey([]byte(trust.UserCA))
	if err != nil {
		t.Fatal(err)
	}
	b, err := ncbox.Start(t.Context(), ncbox.Config{
		UserCA: ca, Port: port, Principal: trust.Principal, Modules: []string{"ietf-system"},
		Certify: func(ctx context.Context, pub ssh.PublicKey) (*ssh.Certificate, error) {
			h, err := tw.security.CertifyHost(ctx, routerID, client.NewHostCertificate{PublicKey: string(ssh.MarshalAuthorizedKey(pub))})
			if err != nil {
				return nil, err
			}
			key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(h.Certificate))
			cert, _ := key.(*ssh.Certificate)
			return cert, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("netconfd and sshd said:\n%s", b.Said())
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
	tw.edges(t)
	tw.story(t, netconfBox{b}, "", "does not tell whether its BGP sessions are established ("+sessionID+")")
}
