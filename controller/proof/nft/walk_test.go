package nft

import (
	"net/netip"
	"strings"
	"testing"
)

// A ward's filter, packet by packet, with the line that decided.
func TestWardWalk(t *testing.T) {
	table := read(t, golden(t, "ward"))
	a := netip.MustParseAddr
	base := Packet{In: "lan.staff", Out: "wn8aea035e", Src: a("10.64.16.5"), Dst: a("10.64.10.53"), Proto: UDP, SPort: 4000, DPort: 53, State: New, TTL: 64}
	with := func(change func(p *Packet)) Packet {
		p := base
		change(&p)
		return p
	}
	for name, tt := range map[string]struct {
		hook Hook
		p    Packet
		pass bool
		last string // part of the deciding rule's text; empty: none decided
	}{
		"permitted":              {Forward, base, true, `comment "p-dns_staff"`},
		"another port":           {Forward, with(func(p *Packet) { p.DPort = 54 }), false, "not permitted"},
		"a fragment":             {Forward, with(func(p *Packet) { p.Fragment = true }), false, "not permitted"},
		"another segment":        {Forward, with(func(p *Packet) { p.In, p.Src = "lan.public", a("10.64.18.5") }), false, "not permitted"},
		"an answer":              {Forward, with(func(p *Packet) { p.State = Established }), true, "established"},
		"out of the blue":        {Forward, with(func(p *Packet) { p.State = Invalid }), false, "invalid"},
		"to the internet":        {Forward, with(func(p *Packet) { p.In, p.Src, p.Out, p.Dst = "lan.public", a("10.64.18.5"), "wan0", a("8.8.8.8") }), true, "p-wifi_public"},
		"private space outside":  {Forward, with(func(p *Packet) { p.In, p.Src, p.Out, p.Dst = "lan.public", a("10.64.18.5"), "wan0", a("192.168.7.7") }), false, "not permitted"},
		"own source":             {Prerouting, base, true, "ip saddr @n4_3 accept"},
		"another one's source":   {Prerouting, with(func(p *Packet) { p.Src = a("10.64.18.5") }), false, "source not of staff"},
		"own source from afar":   {Prerouting, with(func(p *Packet) { p.In = "wn8aea035e" }), false, "own source from a tunnel"},
		"translated from inside": {Prerouting, with(func(p *Packet) { p.Src = a("10.64.17.9") }), false, "address of translated hosts"},
		"BGP of the peer":        {Input, with(func(p *Packet) { p.In, p.Src, p.Proto, p.DPort = "wn8aea035e", a("172.17.0.3"), TCP, 179 }), true, "BGP"},
		"BGP of another peer":    {Input, with(func(p *Packet) { p.In, p.Src, p.Proto, p.DPort = "wna681a1df", a("172.17.0.3"), TCP, 179 }), false, "to the box"},
		"overlay in clear":       {Output, with(func(p *Packet) { p.In, p.Out = "", "wan0" }), false, "overlay in clear"},
		"the box itself":         {Output, with(func(p *Packet) { p.In = "" }), true, ""},
	} {
		got := table.At(tt.hook, tt.p)
		last := ""
		if len(got.Steps) > 0 {
			last = got.Steps[len(got.Steps)-1].Text
		}
		if got.Pass != tt.pass || !strings.Contains(last, tt.last) || tt.last == "" && last != "" {
			t.Errorf("%s: pass %v by %q, want %v by %q", name, got.Pass, last, tt.pass, tt.last)
		}
	}
	in := table.At(Prerouting, Packet{In: "wn8aea035e", Src: a("10.64.10.53"), Dst: a("10.64.17.9"), Proto: TCP, DPort: 9100, State: New})
	if in.Dst != a("192.168.1.9") || !in.Pass {
		t.Errorf("translated to %s, pass %v", in.Dst, in.Pass)
	}
	out := table.At(Postrouting, Packet{In: "lan.staff", Out: "wn8aea035e", Src: a("192.168.1.9"), Dst: a("10.64.10.53"), Proto: UDP, State: New})
	if out.Src != a("10.64.17.9") {
		t.Errorf("leaves as %s", out.Src)
	}
}

// goto does not come back, jump does, return ends a chain, and a base chain's
// policy decides what no rule did.
func TestJumps(t *testing.T) {
	table := read(t, `table inet w {
	chain f {
		type filter hook forward priority filter; policy drop;
		iifname "a" jump sub
		iifname "b" goto sub
		iifname "c" return
		udp dport 9 accept
	}
	chain sub {
		udp dport 1 accept
		udp dport 2 drop
		udp dport 3 return
		udp dport { 3, 4-5 } accept
	}
}
`)
	for in, want := range map[string]string{"a": "1 4 5 9", "b": "1 4 5", "c": "", "d": "9"} {
		var got []string
		for n, name := range strings.Split("0123456789", "") {
			if table.At(Forward, Packet{In: in, Src: netip.IPv4Unspecified(), Proto: UDP, DPort: uint16(n), State: New}).Pass {
				got = append(got, name)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("from %s pass %q, want %q", in, s, want)
		}
	}
}
