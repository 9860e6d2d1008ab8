package console

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

func (n *network) Timeline(_ context.Context, id inventory.DeviceID) (client.Timeline, error) {
	return client.Timeline{Device: id, Steps: []client.BootStep{{Step: "tls", State: "failed", Cause: "captive-portal", By: "device", Count: 3}}}, nil
}

func (n *network) Replace(_ context.Context, want client.NewReplacement, _ string) (client.Replacement, error) {
	if want.OldSerial != "SN-1" {
		return client.Replacement{}, fmt.Errorf("serial %q: %w", want.OldSerial, inventory.ErrNotFound)
	}
	b := client.EnrolmentBundle{Tokens: []client.EnrolmentToken{{Device: "d-1-2", Token: "secret-enrolment-token"}}}
	return client.Replacement{Old: "d-1", Device: "d-1-2", Revoked: 1, Revision: client.RevisionInfo{Number: 2}, Enrolment: b}, nil
}

func TestTimelineAndReplacementOverHTTP(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	noc, eng := s.user("noc", client.RoleNOC), s.user("eng", client.RoleEngineer)
	if tl, err := noc.Timeline(ctx, "d-1"); err != nil || tl.Device != "d-1" || len(tl.Steps) != 1 || tl.Steps[0].Cause != "captive-portal" {
		t.Errorf("%+v, %v", tl, err)
	}
	if _, err := noc.Timeline(ctx, "d-9"); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("an unknown device: %v", err)
	}
	if _, err := noc.Replace(ctx, client.NewReplacement{OldSerial: "SN-1", NewSerial: "SN-2"}); err == nil {
		t.Error("the NOC replaced a device")
	}
	if _, err := eng.Replace(ctx, client.NewReplacement{OldSerial: "SN-9", NewSerial: "SN-2"}); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("an unknown serial: %v", err)
	}
	r, err := eng.Replace(ctx, client.NewReplacement{OldSerial: "SN-1", NewSerial: "SN-2", Reason: "burnt"})
	if err != nil || r.Device != "d-1-2" || r.Enrolment.Tokens[0].Token == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	log := s.last(3)
	if e := log[0]; e.What != "replace-device" || e.Object != "device/d-1" || e.Outcome != outcomeDone || !strings.Contains(string(e.After), "burnt") || strings.Contains(string(e.After), "secret") {
		t.Errorf("audit %+v %s", e, e.After)
	}
	if log[1].Outcome != outcomeRefused || log[2].Outcome != outcomeRefused {
		t.Errorf("refusals in the audit log: %+v", log[1:])
	}
}

// hall is an installation with the sample city, as cmd wires it.
type hall struct {
	*Replacer
	keep    *KeptInventory
	intents *Intents
	pki     *pki.PKI
	boots   *KeptBoots
	auth    *Authority
	told    []uint64 // versions
	broken  error    // what the store answers, when set
}

func newHall(t *testing.T) *hall {
	t.Helper()
	ctx, db, city := t.Context(), openDB(t), sample.City()
	h := &hall{}
	h.keep = AdaptInventory(store.NewInventory(db, city.Org), city.Org, func(_ context.Context, _ inventory.Inventory, v uint64) { h.told = append(h.told, v) })
	boots, err := pki.NewBoots(pki.BootDeps{Store: store.NewBoots(db, city.Org), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h.boots = AdaptBoots(boots)
	h.pki, err = pki.Open(ctx, pki.Deps{
		Store: store.NewPKI(db, city.Org), Dir: t.TempDir(), Boots: boots, Log: slog.New(slog.DiscardHandler),
		Audit: func(context.Context, pki.Event) error { return nil },
		Device: func(ctx context.Context, id inventory.DeviceID) (inventory.Device, error) {
			inv, _, err := h.keep.Load(ctx)
			if err != nil {
				return inventory.Device{}, err
			}
			if d, ok := inv.Index().Device(id); ok {
				return d, nil
			}
			return inventory.Device{}, inventory.ErrNotFound
		},
	}, pki.Config{EnrolURL: "https://hub:9445"})
	if err != nil {
		t.Fatal(err)
	}
	rows, key := store.NewRevisions(db, city.Org), h.pki.Keys()[pki.RevisionKey]
	h.intents = AdaptRevisions(IntentSources{Store: rows, Approvals: rows, Waivers: rows, Inventory: h.keep, Org: city.Org, Signer: key.Signer, KeyID: key.ID, Planner: planner{}})
	h.auth = AdaptCertificates(h.pki, h.keep)
	h.Replacer = AdaptReplacements(ReplacementSources{
		Inventory: h.keep, Intents: h.intents, PKI: h.pki,
		Swap: func(ctx context.Context, s Swap) (uint64, []pki.Revocation, error) {
			if h.broken != nil {
				return 0, nil, h.broken
			}
			return db.Swap(ctx, city.Org, store.Swap(s))
		},
	})
	if _, err := h.keep.Import(ctx, sample.Document(), 0, false); err != nil {
		t.Fatal(err)
	}
	if _, err := h.intents.Propose(ctx, client.NewRevision{Message: "first"}, "eng"); err != nil {
		t.Fatal(err)
	}
	return h
}

// enrol gives the device of the token a certificate, as its box would ask.
func (h *hall) enrol(t *testing.T, tok client.EnrolmentToken) error {
	t.Helper()
	key, err := enrol.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := enrol.SPIFFEID(h.pki.TrustDomain(), enrol.DeviceKind, string(tok.Device))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := enrol.NewCSR(key, id)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.pki.Enrol(t.Context(), "", enrol.Request{Token: tok.Token, Serial: tok.Serial, CSR: csr, WireGuardPublicKey: publicWireGuard(t)})
	return err
}

func (h *hall) valid(t *testing.T, id inventory.DeviceID) (n int) {
	t.Helper()
	all, err := h.auth.Certificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Device == id && c.State == "valid" {
			n++
		}
	}
	return n
}

func TestReplaceADeviceOfTheCity(t *testing.T) {
	h, ctx := newHall(t), t.Context()
	inv, _, err := h.keep.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(inv.Devices, func(d inventory.Device) bool {
		return d.Role == inventory.RoleEdge && d.Intended == inventory.InService
	})
	old := inv.Devices[i]
	b, err := h.auth.Enrol(ctx, []inventory.DeviceID{old.ID}, "eng")
	if err != nil || h.enrol(t, b.Tokens[0]) != nil || h.valid(t, old.ID) != 1 {
		t.Fatalf("the old device has no certificate: %v", err)
	}
	before, err := controller.CompileAll(mustRevision(t, h, 1))
	if err != nil {
		t.Fatal(err)
	}

	// A store that fails leaves everything, and the old device works on.
	h.broken = errors.New("disk full")
	if _, err := h.Replace(ctx, client.NewReplacement{OldSerial: old.Serial, NewSerial: "NEW-1"}, "eng"); !errors.Is(err, h.broken) {
		t.Errorf("got %v", err)
	}
	h.broken = nil
	hub := inv.Devices[slices.IndexFunc(inv.Devices, func(d inventory.Device) bool { return d.Role == inventory.RoleHub })]
	if _, err := h.Replace(ctx, client.NewReplacement{OldSerial: hub.Serial, NewSerial: "NEW-1"}, "eng"); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "is a hub") {
		t.Errorf("a hub: %v", err)
	}
	if now, v, err := h.keep.Load(ctx); err != nil || v != 1 || !inventory.Diff(now, inv).Empty() || h.valid(t, old.ID) != 1 || len(h.told) != 1 {
		t.Fatalf("a refused replacement changed something: version %d, told %v, %v", v, h.told, err)
	}

	r, err := h.Replace(ctx, client.NewReplacement{OldSerial: old.Serial, NewSerial: "NEW-1", Reason: "burnt"}, "eng")
	if err != nil {
		t.Fatal(err)
	}
	if r.Old != old.ID || r.Device != old.ID+"-2" || r.Site != old.Site || r.Revoked != 1 || r.Inventory != 2 || r.Revision.Number != 2 || !strings.Contains(r.Revision.Message, "burnt") {
		t.Errorf("%+v", r)
	}
	if h.valid(t, old.ID) != 0 || !slices.Equal(h.told, []uint64{1, 2}) {
		t.Errorf("the old device has %d valid certificates; told %v", h.valid(t, old.ID), h.told)
	}
	// The same network, but for the names: addresses, tunnels and AS number stay.
	after, err := controller.CompileAll(mustRevision(t, h, 2))
	if err != nil {
		t.Fatal(err)
	}
	was, is := before.Devices[old.ID].Config, after.Devices[r.Device].Config
	if change := edge.Diff(was, is); is.Device != r.Device || is.BGP.ASN != was.BGP.ASN || is.Loopback != was.Loopback || len(is.Tunnels) == 0 {
		t.Errorf("the device's config: %v", change)
	}
	for k, tun := range is.Tunnels {
		if tun.Name != was.Tunnels[k].Name || tun.Local != was.Tunnels[k].Local || tun.ListenPort != was.Tunnels[k].ListenPort {
			t.Errorf("tunnel %+v was %+v", tun, was.Tunnels[k])
		}
	}
	changed := 0
	for id, w := range after.Devices {
		if w.Hash != before.Devices[id].Hash {
			changed++
		}
	}
	if hubs := len(inv.Index().HubDevices(old.Site)); changed != hubs+1 {
		t.Errorf("%d devices change, want the new one and %d hubs", changed, hubs)
	}
	// The new box enrols with its bundle, the old one by nothing any more.
	if err := h.enrol(t, r.Enrolment.Tokens[0]); err != nil || h.valid(t, r.Device) != 1 {
		t.Errorf("the new device cannot enrol: %v", err)
	}
	if _, err := h.auth.Enrol(ctx, []inventory.DeviceID{old.ID}, "eng"); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a token for the old device: %v", err)
	}
	tl, err := h.boots.Timeline(ctx, r.Device)
	if err != nil || !tl.Open || len(tl.Steps) != 2 {
		t.Fatalf("%+v, %v", tl, err)
	}
	h.boots.Connected(ctx, r.Device)
	h.boots.Reached(ctx, r.Device, controller.StepPush, fmt.Errorf("bgp: %w", edge.ErrRejected))
	h.boots.Reached(ctx, r.Device, controller.StepPush, nil)
	h.boots.Reached(ctx, r.Device, controller.StepConfirm, errors.New("no BFD"))
	h.boots.Reached(ctx, r.Device, controller.StepConfirm, nil)
	if tl, err = h.boots.Timeline(ctx, r.Device); err != nil || tl.Open || len(tl.Steps) != 7 || tl.Steps[3].Cause != "config-rejected" || tl.Steps[5].Cause != "unhealthy" {
		t.Errorf("%+v, %v", tl, err)
	}
	// And once more: the id counts on.
	again, err := h.Replace(ctx, client.NewReplacement{OldSerial: "NEW-1", NewSerial: old.Serial}, "eng")
	if err != nil || again.Device != old.ID+"-3" {
		t.Errorf("%+v, %v", again.Device, err)
	}
}

// The bundle the API gives is signed, and names the ports that the inventory
// knows.
func TestBundleNamesTheSitesPorts(t *testing.T) {
	h, ctx := newHall(t), t.Context()
	inv, version, err := h.keep.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var doc strings.Builder
	d := inv.Devices[slices.IndexFunc(inv.Devices, func(d inventory.Device) bool { return d.Role == inventory.RoleEdge })]
	inv = inv.Normalize()
	ports := 0
	for i, k := range inv.Circuits {
		if k.Site == d.Site {
			inv.Circuits[i].Port = fmt.Sprintf("eth%d", ports)
			ports++
			if k.Addressing == inventory.Static {
				gw := k.Address.Masked().Addr().Next()
				if gw == k.Address.Addr() {
					gw = gw.Next()
				}
				inv.Circuits[i].Gateway = gw
			}
		}
	}
	if err := inventory.Encode(&doc, inv); err != nil {
		t.Fatal(err)
	}
	if _, err := h.keep.Import(ctx, []byte(doc.String()), version, false); err != nil {
		t.Fatal(err)
	}
	b, err := h.auth.Enrol(ctx, []inventory.DeviceID{d.ID}, "eng")
	if err != nil {
		t.Fatal(err)
	}
	tok := b.Tokens[0]
	if len(tok.Ports) != ports || ports == 0 || tok.Ports[0].Port != "eth0" || tok.Expires.Before(time.Now()) {
		t.Fatalf("%+v", tok)
	}
	out := enrol.Bundle{EnrolURL: b.EnrolURL, Channel: b.Channel, CAURL: b.CAURL, RootPEM: b.RootPEM, Device: tok.Device, Serial: tok.Serial, Token: tok.Token, Signer: b.Signer, Signature: tok.Signature}
	for _, p := range tok.Ports {
		if p.MTU < 1280 {
			t.Errorf("port %s has MTU %d; its profile gives one", p.Port, p.MTU)
		}
		out.Ports = append(out.Ports, enrol.Port(p))
	}
	if err := errors.Join(out.Validate(), out.Verify(h.pki.RootPEM())); err != nil {
		t.Error(err)
	}
	out.Ports[0].Port = "eth9"
	if err := out.Validate(); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a changed port: %v", err)
	}
}

func mustRevision(t *testing.T, h *hall, n intent.Number) intent.Revision {
	t.Helper()
	v, err := h.intents.Revision(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return v.Revision
}

func publicWireGuard(t *testing.T) string {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(k.PublicKey().Bytes())
}
