package netconf

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/edgetest"
	"github.com/wardnet/wardnet/inventory"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden; read the diff before committing")

// text is what names and ports may hold, with what XML has to escape; unquoted
// leaves out what netconfd (yuma123 2.13) dies of: it writes paths with names.
var (
	text     = rapid.StringMatching(`[a-zđ<>&"'][a-z0-9 ơ<>&"'.-]{0,8}[a-z0-9]`)
	unquoted = rapid.StringMatching(`[a-zđ<>&][a-z0-9 ơ<>&.-]{0,8}[a-z0-9]`)
)

func addr(r *rapid.T) netip.Addr {
	switch rapid.IntRange(0, 2).Draw(r, "family") {
	case 0:
		return netip.Addr{}
	case 1:
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(r, "v4")))
	}
	return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, "v6")))
}

func prefix(r *rapid.T) netip.Prefix {
	a := addr(r)
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(r, "bits"))
}

// several draws different values, none of them zero.
func several[T comparable](r *rapid.T, one func(*rapid.T) T) []T {
	var zero T
	var out []T
	for range rapid.IntRange(0, 3).Draw(r, "n") {
		if v := one(r); v != zero && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// drawConfig draws the parts that the model has, within its types.
func drawConfig(r *rapid.T, text *rapid.Generator[string]) edge.Config {
	n := func(most int) int { return rapid.IntRange(0, most).Draw(r, "number") }
	word := func(i int) string { return fmt.Sprint(text.Draw(r, "text"), i) } // different ones
	c := edge.Config{Loopback: addr(r)}
	c.BGP = edge.BGP{ASN: rapid.Uint32().Draw(r, "asn"), RouterID: addr(r), Networks: several(r, prefix), Accept: several(r, prefix)}
	for i := range rapid.IntRange(0, 3).Draw(r, "parts") {
		c.Circuits = append(c.Circuits, edge.Circuit{
			Name: word(i), Kind: rapid.SampledFrom([]inventory.CircuitKind{"", "ftth", "5g"}).Draw(r, "kind"),
			UpBPS: inventory.BitRate(n(1 << 40)), MTU: n(1<<16 - 1), Port: word(i),
			Addressing: rapid.SampledFrom([]inventory.Addressing{"", "static", "dhcp"}).Draw(r, "addressing"), Address: prefix(r), Gateway: addr(r),
		})
		s := edge.Segment{Kind: inventory.SegmentKind(word(i)), V4: prefix(r), V6: prefix(r), Port: word(i), DNS: several(r, addr), NTP: several(r, addr)}
		s.DHCP = edge.DHCP{From: addr(r), To: addr(r), LeaseSeconds: n(1<<32 - 1), Relay: addr(r)}
		for j, a := range several(r, addr) {
			s.DHCP.Reservations = append(s.DHCP.Reservations, edge.Reservation{MAC: word(j), Addr: a, Name: text.Draw(r, "host")})
		}
		c.Segments = append(c.Segments, s)
		c.BGP.Neighbours = append(c.BGP.Neighbours, edge.Neighbour{
			Tunnel: word(i), Addr: addr(r), ASN: rapid.Uint32().Draw(r, "asn"), Preference: n(1<<31-1) - 1<<30, BFDMinMS: n(1<<32 - 1), BFDMult: n(255),
		})
		c.Uplinks = append(c.Uplinks, edge.Uplink{
			Name: word(i), Port: word(i), Local: prefix(r), Peer: addr(r), PeerASN: rapid.Uint32().Draw(r, "asn"), Accept: several(r, prefix),
		})
	}
	return c
}

// asRead is the answer of a device that holds r.
func asRead(r router) []byte {
	body, err := xml.Marshal(r)
	if err != nil {
		panic(err) // plain values only
	}
	return fmt.Appendf(nil, `<rpc-reply message-id="101" xmlns="%s"><data>%s</data></rpc-reply>`, baseNS, body)
}

// What is written reads back as it was, whatever else is in the config.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		want, base := drawConfig(r, text), edgetest.Config(3)
		rep, err := parseReply(asRead(render(want)))
		if err != nil {
			r.Fatal(err)
		}
		got, err := rep.Data.Router.into(base)
		if err != nil {
			r.Fatal(err)
		}
		// the parts that the model has not stay
		want.Device, want.Site, want.Role = base.Device, base.Site, base.Role
		want.Tunnels, want.Rules, want.Contract = base.Tunnels, base.Rules, base.Contract
		if change := edge.Diff(got, want); !change.Empty() {
			r.Fatalf("read back:\n%s", change)
		}
	})
}

func TestGoldenEdit(t *testing.T) {
	c := edgetest.Config(7)
	c.Segments[0].DHCP = edge.DHCP{From: netip.MustParseAddr("10.64.16.10"), To: netip.MustParseAddr("10.64.17.200"), LeaseSeconds: 3600}
	c.Segments[0].DNS = []netip.Addr{netip.MustParseAddr("10.64.0.53")}
	e := editConfig{Target: candidate, Default: "none", Test: "test-then-set"}
	e.Config.Router = render(c)
	e.Config.Router.Base, e.Config.Router.Op = baseNS, "replace"
	got, err := xml.MarshalIndent(e, "", "  ")
	must(t, err)
	const file = "testdata/edit.golden"
	if *update {
		must(t, os.WriteFile(file, append(got, '\n'), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if string(got) != strings.TrimSpace(string(want)) {
		t.Errorf("the edit is now:\n%s", got)
	}
}

func TestReplies(t *testing.T) {
	for name, tt := range map[string]struct{ doc, err string }{
		"ok":      {`<rpc-reply xmlns="` + baseNS + `"><ok/></rpc-reply>`, ""},
		"warning": {`<rpc-reply xmlns="` + baseNS + `"><rpc-error><error-severity>warning</error-severity></rpc-error><ok/></rpc-reply>`, ""},
		"error": {
			`<n:rpc-reply xmlns:n="` + baseNS + `"><n:rpc-error><n:error-tag>lock-denied</n:error-tag><n:error-severity>error</n:error-severity><n:error-message>no
			way</n:error-message></n:rpc-error></n:rpc-reply>`, "lock-denied: no way",
		},
		"nothing":          {`<rpc-reply xmlns="` + baseNS + `"></rpc-reply>`, "neither ok nor data"},
		"not a reply":      {`<hello xmlns="` + baseNS + `"/>`, "cannot be read"},
		"another language": {`<rpc-reply xmlns="urn:x"><ok/></rpc-reply>`, "cannot be read"},
		"cut off":          {`<rpc-reply xmlns="` + baseNS + `"><ok/></rpc-re`, "cannot be read"},
		"two":              {`<rpc-reply xmlns="` + baseNS + `"><ok/></rpc-reply><x/>`, "something follows"},
		"empty":            {"", "cannot be read"},
		"bad address":      {`<rpc-reply xmlns="` + baseNS + `"><data><router xmlns="` + routerNS + `"><loopback>10.0.0</loopback></router></data></rpc-reply>`, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseReply([]byte(tt.doc))
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("err = %v, want %q", err, tt.err)
			}
		})
	}
}

// The archived text is an element a line, and nothing of the reply around it.
func TestLines(t *testing.T) {
	doc := `<?xml version="1.0"?><rpc-reply message-id="7" xmlns="` + baseNS + `"><data>
		<router xmlns="` + routerNS + `"><loopback>10.0.0.1</loopback><bgp><asn>1</asn></bgp><empty/><none></none></router><nc:x xmlns:nc="u">a &lt; b</nc:x></data></rpc-reply>`
	got, err := lines([]byte(doc))
	want := `<router xmlns="` + routerNS + `">
 <loopback>10.0.0.1</loopback>
 <bgp>
  <asn>1</asn>
 </bgp>
 <empty/>
 <none></none>
</router>
<nc:x xmlns:nc="u">a &lt; b</nc:x>
`
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if got, err := lines([]byte("<rpc-reply><data><da&a>")); !errors.Is(err, errGarbled) {
		t.Errorf("garbage gives %q, %v", got, err)
	}
}

func TestSessionsOfTheDevice(t *testing.T) {
	r, err := parseReply([]byte(`<rpc-reply xmlns="` + baseNS + `"><data><sessions xmlns="` + routerNS + `">` +
		`<session><tunnel>a--hub-1</tunnel><up>true</up><bfd>true</bfd><bgp>false</bgp></session></sessions></data></rpc-reply>`))
	must(t, err)
	if s := r.Data.States.Sessions; len(s) != 1 || s[0].Tunnel != "a--hub-1" || !s[0].Up || !s[0].BFD || s[0].BGP {
		t.Errorf("sessions = %+v", s)
	}
}

// Whatever a device answers, it is read whole or refused, and what was read is
// written and read again as the same.
func FuzzReply(f *testing.F) {
	f.Add(asRead(render(edgetest.Config(1))))
	f.Add([]byte(`<rpc-reply xmlns="` + baseNS + `"><rpc-error><error-tag>x</error-tag></rpc-error></rpc-reply>`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		r, err := parseReply(doc)
		if err != nil || r.Data == nil || r.Data.Router == nil {
			return
		}
		first, err := r.Data.Router.into(edge.Config{})
		if err != nil {
			return
		}
		body := asRead(render(first))
		r, err = parseReply(body)
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v\n%s", err, body)
		}
		again, err := r.Data.Router.into(edge.Config{})
		if err != nil || !bytes.Equal(asRead(render(again)), body) {
			t.Fatalf("read again (%v):\n%s", err, edge.Diff(first, again))
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
