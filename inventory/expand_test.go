package inventory

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A profile with variables is another way to write the same inventory, and what
// it says of every field's source is so.
func TestExpansionIsWhatOneWouldWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawInventory(t).Normalize()
		short := drawProfiles(t, want)
		if err := Validate(short); err != nil {
			t.Fatal(err)
		}
		got, err := Expand(short)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "expansion", got.Normalize(), want)
		again, err := Expand(got)
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("the expansion of an expansion: %v, %v", Diff(got, again), err)
		}
		for _, s := range short.Sites {
			sources, err := Explain(short, s.ID)
			if err != nil || s.Profile == "" && len(sources) > 0 {
				t.Fatalf("%s: %v, %v", s.ID, sources, err)
			}
			for _, from := range sources {
				if _, given := s.Variables[from.Variable]; from.Variable != "" && given == from.Default {
					t.Fatalf("%s: %+v, the site gives %v", s.ID, from, s.Variables)
				}
				if (from.Profile == "") != (from.At == "") || from.String() == "" {
					t.Fatalf("%+v", from)
				}
			}
		}
	})
}

// Equal sites under equal profiles have equal expansions, whatever else changes.
func TestExpansionOfASiteIsItsOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv := drawProfiles(t, drawInventory(t))
		all, err := Expand(inv)
		if err != nil {
			t.Fatal(err)
		}
		i := rapid.IntRange(0, len(inv.Sites)-1).Draw(t, "site")
		one := inv
		one.Sites = []Site{inv.Sites[i]}
		alone, err := Expand(one)
		if err != nil || !reflect.DeepEqual(alone.Sites[0], all.Sites[i]) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, alone.Sites, all.Sites[i])
		}
	})
}

// profiled is a document whose branch has a profile; line 20 begins b-1.
const profiled = `profiles:
  - id: base
    variables:
      - {name: voice_port, type: text, default: eth4}
      - {name: relay, type: address}
    segments:
      - {kind: voice, port: '${voice_port}', dhcp: relay, dhcp_relay: '${relay}'}
      - {kind: dmz, unused: no servers for the public}
    circuits:
      - {mtu: 1400}
      - {kind: ftth, mtu: 1492}
  - id: small
    extends: base
    variables:
      - {name: staff_mode, type: choice, choices: [server, relay], default: server}
    segments:
      - {kind: staff, port: eth2, dhcp: '${staff_mode}'}
      - {kind: mgmt}
    opens:
      - {permit: out, from: [staff]}
`

func profiledBase(pairs ...string) string {
	doc := change(
		"sites:\n", profiled+"sites:\n",
		"    name: Chi nhánh 1\n", "    name: Chi nhánh 1\n    profile: small\n    variables: {relay: 10.64.0.9}\n",
		"    mtu: 1492\n", "",
		"permits: []", "permits:\n  - {id: out, from: [staff, public], to_internet: true, reason: web}",
	)
	return strings.NewReplacer(pairs...).Replace(doc)
}

// routedBase is profiledBase with a profile for the hub, whose uplink ends at the
// router that the hub names; there is r-1.
func routedBase(router string, pairs ...string) string {
	doc := strings.NewReplacer(
		"sites:\n", `  - id: dc
    variables:
      # of dc
      - {name: core, type: text}
    uplinks:
      - {name: dc, port: up0, address: 198.18.0.2/30, peer: 198.18.0.1, peer_asn: 65010, router: '${core}'}
routers:
  - {id: r-1, serial: R-1, site: hub-1, platform: netconf, intended: in-service, management: '192.0.2.6:830'}
sites:
`,
		"    name: Trung tâm dữ liệu\n", "    name: Trung tâm dữ liệu\n    profile: dc\n    variables: {core: "+router+"}\n",
	).Replace(profiledBase())
	return strings.NewReplacer(pairs...).Replace(doc)
}

// A hub's router comes from its profile, by a variable of the hub's own.
func TestRouterOfAProfile(t *testing.T) {
	inv, err := Decode("city.yaml", strings.NewReader(routedBase("r-1")))
	if err != nil {
		t.Fatal(err)
	}
	out, err := Expand(inv)
	if err != nil {
		t.Fatal(err)
	}
	hub, ok := out.Index().Site("hub-1")
	if !ok || len(hub.Uplinks) != 1 || hub.Uplinks[0].Router != "r-1" || hub.Uplinks[0].PeerASN != 65010 {
		t.Fatalf("the hub's uplinks are %+v", hub.Uplinks)
	}
	sources, err := Explain(inv, "hub-1")
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, s := range sources {
		if s.Field == "uplinks.dc.router" {
			said = s.Value + ": " + s.String()
		}
	}
	if want := "r-1: the site's variable core, through profile dc"; said != want {
		t.Errorf("its source is %q, want %q", said, want)
	}
}

func TestProfileIsWrittenOut(t *testing.T) {
	inv, err := Decode("city.yaml", strings.NewReader(profiledBase()))
	if err != nil {
		t.Fatal(err)
	}
	out, err := Expand(inv)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := EncodeSite(&b, out.Normalize().Sites[0], out.Circuits); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"- {kind: staff, port: eth2, dhcp: server}", "- {kind: voice, port: eth4, dhcp: relay, dhcp_relay: 10.64.0.9}",
		"- {kind: dmz, unused: no servers for the public}", "- {kind: mgmt}", "- {permit: out, from: [staff]}", "mtu: 1492",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing of\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "profile") || strings.Contains(b.String(), "variables") {
		t.Errorf("left over:\n%s", b.String())
	}
	sources, err := Explain(inv, "b-1")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, s := range sources {
		said[s.Field] = s.Value + ": " + s.String()
	}
	for field, want := range map[string]string{
		"segments.staff.port":       "eth2: from profile small",
		"segments.staff.dhcp":       "server: default of variable staff_mode of profile small",
		"segments.voice.dhcp_relay": "10.64.0.9: the site's variable relay, through profile base",
		"segments.dmz.unused":       "no servers for the public: from profile base",
		"circuits.c-1.mtu":          "1492: from profile base",
	} {
		if said[field] != want {
			t.Errorf("%s is %q, want %q", field, said[field], want)
		}
	}
	next := inv.Normalize()
	next.Profiles[1].Segments[0].Port = Given("eth3")
	next.Sites[0].Variables["relay"] = "10.64.0.10"
	if d := Diff(inv, next); d.String() != "profiles +0 ~1 -0, sites +0 ~1 -0" || inv.Sites[0].Variables["relay"] != "10.64.0.9" {
		t.Errorf("diff is %q; %v", d, inv.Sites[0].Variables)
	}
	if _, err := Explain(inv, "b-9"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown site: %v", err)
	}
}

// Each slip gives exactly the fault that names it, at what was written.
func TestProfileFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		doc  string
		want string
	}{
		"unknown profile":       {profiledBase("profile: small", "profile: tiny"), `sites[1].profile: site "b-1": unknown profile "tiny"; declare it under profiles`},
		"values, no profile":    {profiledBase("    profile: small\n", "    segments: []\n", "addressing: pppoe", "addressing: pppoe\n    mtu: 1492"), `sites[1].variables: site "b-1": values without a profile`},
		"loop":                  {profiledBase("  - id: base\n", "  - id: base\n    extends: small\n"), `profiles[0].extends: profile "base" extends itself: base → small → base`},
		"loop of one":           {profiledBase("extends: base", "extends: small"), `profiles[1].extends: profile "small" extends itself: small → small`},
		"extends nothing":       {profiledBase("extends: base", "extends: bass"), `profiles[1].extends: profile "small": unknown profile "bass"`},
		"unknown variable":      {profiledBase("port: eth2", "port: '${staff_port}'"), `profiles[1].segments[0].port: profile "small": unknown variable "staff_port" (it has relay, staff_mode, voice_port)`},
		"variable of a child":   {profiledBase("{mtu: 1400}", "{mtu: 1400, overlay: '${staff_mode}'}"), `profiles[0].circuits[0].overlay: profile "base": unknown variable "staff_mode"`},
		"variable of no type":   {profiledBase("type: address", "type: addr"), `profiles[0].variables[1].type: profile "base": variable "relay": unknown type "addr" (want address, prefix,`},
		"type of the field":     {profiledBase("type: address", "type: text"), `profiles[0].segments[0].dhcp_relay: profile "base": variable "relay" is of type text; this field takes address`},
		"missing value":         {profiledBase("variables: {relay: 10.64.0.9}", "variables: {}"), `sites[1].variables: site "b-1": no value for variable "relay" of type address, which profiles[0].segments[0].dhcp_relay of profile "small" takes`},
		"wrong type":            {profiledBase("relay: 10.64.0.9", "relay: eth4"), `sites[1].variables.relay: site "b-1": variable "relay" of type address (profile "base"): "eth4" is not an address`},
		"not a choice":          {profiledBase("{relay: 10.64.0.9}", "{relay: 10.64.0.9, staff_mode: static}"), `variables.staff_mode: site "b-1": variable "staff_mode" of type choice (profile "small"): "static" is none of its choices (want server, relay)`},
		"value of nothing":      {profiledBase("{relay: 10.64.0.9}", "{relay: 10.64.0.9, vlan: 20}"), `sites[1].variables.vlan: site "b-1": unknown variable "vlan"; profile "small" takes relay, staff_mode, voice_port`},
		"unused value":          {profiledBase("{relay: 10.64.0.9}", "{relay: 10.64.0.9, voice_port: eth9}\n    segments: [{kind: voice, port: eth8}]"), `sites[1].variables.voice_port: site "b-1": no field takes the value of variable "voice_port"`},
		"value in a value":      {profiledBase("relay: 10.64.0.9", "relay: '${voice_port}'"), `variables.relay: site "b-1": variable "relay" of type address (profile "base"): "${voice_port}" holds "${"`},
		"empty value":           {profiledBase("relay: 10.64.0.9", "relay: ''"), `is empty; leave it out where a default is to hold`},
		"unused variable":       {profiledBase("port: '${voice_port}'", "port: eth4"), `profiles[0].variables[0]: profile "base": no field takes variable "voice_port"`},
		"bad default":           {profiledBase("default: server", "default: static"), `profiles[1].variables[0].default: profile "small": variable "staff_mode": "static" is none of its choices`},
		"choice without":        {profiledBase("choices: [server, relay], ", ""), `profiles[1].variables[0].choices: profile "small": variable "staff_mode": type choice has choices`},
		"declared again":        {profiledBase("{name: staff_mode, type: choice, choices: [server, relay], default: server}", "{name: staff_mode, type: choice, choices: [server, relay], default: server}\n      - {name: relay, type: text}"), `profiles[1].variables[1].type: profile "small": variable "relay": is of type address in profile "base"`},
		"name of a variable":    {profiledBase("name: staff_mode", "name: staff-mode", "'${staff_mode}'", "server"), `variable "staff-mode": a name is 1 to 63 of a-z`},
		"text around":           {profiledBase("port: eth2", "port: 'eth${voice_port}'"), `profiles[1].segments[0].port: "eth${voice_port}" is no reference to a variable`},
		"other template":        {profiledBase("port: eth2", "port: '{{ staff_port }}'"), `profiles[1].segments[0].port: "{{ staff_port }}" holds "{{" of another template language`},
		"residue in a name":     {profiledBase("Chi nhánh 1", "Chi nhánh ${n}"), `sites[1].name: site "b-1": "Chi nhánh ${n}" holds "${", which is left of a template`},
		"residue in a reason":   {profiledBase("reason: web", "reason: 'for <no value>'"), `permits[0].reason: permit "out": "for <no value>" holds "<no value>"`},
		"residue in a port":     {profiledBase("{relay: 10.64.0.9}", "{relay: 10.64.0.9}\n    segments: [{kind: iot, port: '${x}'}]"), `sites[1].segments[0].port: site "b-1": "${x}" holds "${"`},
		"not its type":          {profiledBase("{kind: mgmt}", "{kind: mgmt, dhcp_relay: nowhere}"), `profiles[1].segments[1].dhcp_relay: "nowhere" is not an address`},
		"out of bounds":         {profiledBase("mtu: 1492", "mtu: 900"), `profiles[0].circuits[1].mtu: profile "base": 900 is not in 1280 to 9216`},
		"value out of bounds":   {profiledBase("{kind: ftth, mtu: 1492}", "{kind: ftth, mtu: '${mtu}'}", "type: address}", "type: address}\n      - {name: mtu, type: integer, default: 1492}", "{relay: 10.64.0.9}", "{relay: 10.64.0.9, mtu: 70}"), `sites[1].variables.mtu: circuit "c-1": 70 is not in 1280 to 9216 (circuits.c-1.mtu: the site's variable mtu, through profile base)`},
		"default out of bounds": {profiledBase("{kind: ftth, mtu: 1492}", "{kind: ftth, mtu: '${mtu}'}", "type: address}", "type: address}\n      - {name: mtu, type: integer, default: 70}"), `profiles[0].circuits[1].mtu: circuit "c-1": 70 is not in 1280 to 9216 (default of variable mtu of profile base)`},
		"no MTU":                {profiledBase("      - {mtu: 1400}\n      - {kind: ftth, mtu: 1492}\n", "      - {kind: lte, mtu: 1400}\n"), `circuits[0].mtu: circuit "c-1": is missing; write it here, or under circuits of the profile of site "b-1"`},
		"two of one port":       {profiledBase("default: eth4", "default: eth2"), `site "b-1": port eth2 of site "b-1" is segment "staff" already (default of variable voice_port of profile base)`},
		"segment twice":         {profiledBase("- {kind: mgmt}", "- {kind: staff}"), `profiles[1].segments[1].kind: profile "small": segment "staff" is listed twice`},
		"unknown segment":       {profiledBase("- {kind: mgmt}", "- {kind: vault}"), `profiles[1].segments[1].kind: profile "small": unknown value "vault"`},
		"unused with a port":    {profiledBase("unused: no servers for the public", "unused: none, port: eth7"), `profiles[0].segments[1]: profile "base": segment "dmz" is unused; it has no port`},
		"unknown permit":        {profiledBase("permit: out, from", "permit: oud, from"), `profiles[1].opens[0].permit: profile "small": unknown permit "oud"`},
		"opens more":            {profiledBase("from: [staff]}", "from: [staff, iot]}"), `profiles[1].opens[0].from[1]: profile "small": permit "out" names no segment "iot" (it names staff, public)`},
		"router of a profile":   {routedBase("r-9"), `sites[0].variables.core: unknown router "r-9"; declare it under routers (uplinks.dc.router: the site's variable core, through profile dc)`},
		"router with no id":     {routedBase("r-1", "router: '${core}'", "router: R_1", "      - {name: core, type: text}\n", "", "    variables:\n      # of dc\n", "", "    variables: {core: r-1}\n", ""), `profiles[2].uplinks[0].router: profile "dc": "R_1": `},
		"router's variable":     {routedBase("7", "{name: core, type: text}", "{name: core, type: integer}"), `profiles[2].uplinks[0].router: profile "dc": variable "core" is of type integer; this field takes text, choice`},
		"nothing for circuits":  {profiledBase("{mtu: 1400}", "{kind: lte}"), `profiles[0].circuits[0]: profile "base": gives nothing; name the mtu`},
		"profile twice":         {profiledBase("profiles:\n", "profiles:\n  - {id: base}\n"), `profiles[1].id: profile "base": the id is taken by profiles[0]`},
		"segments missing": {
			profiledBase("kind: branch", "kind: ward-office"),
			`sites[1].profile: site "b-1": a ward office lists all eight segments; public, kiosk, iot, servers missing (give an empty one a reason in "unused") (the site's own and those of profile small)`,
		},
		"at a hub": {
			profiledBase("    name: Trung tâm dữ liệu\n", "    name: Trung tâm dữ liệu\n    profile: small\n    variables: {relay: 10.64.0.9}\n"),
			`profiles[1].opens: site "hub-1": a hub lets through what is permitted, by site; leave the list out (from profile small)`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range decodeFaults(t, tt.doc) {
				got = append(got, f.String())
				if f.Line == 0 || f.File == "" {
					t.Errorf("%s: no line", f)
				}
			}
			if name == "profile twice" && len(got) > 1 { // the second is not read: what it declares is missing
				got = got[:1]
			}
			if len(got) != 1 || !strings.Contains(got[0], tt.want) {
				t.Errorf("got %s\nwant %s", strings.Join(got, "\n    "), tt.want)
			}
		})
	}
}

// Faults come in one order, whatever the order of a map.
func TestFaultsOfVariablesAreOrdered(t *testing.T) {
	inv, err := Decode("city.yaml", strings.NewReader(profiledBase()))
	if err != nil {
		t.Fatal(err)
	}
	inv.Sites[0].Variables = map[string]VariableValue{"z": "1", "b": "1", "k": "1", "a": "1", "relay": "10.64.0.9"}
	for range 20 {
		faults, _ := errors.AsType[Faults](Validate(inv))
		var got []string
		for _, f := range faults {
			got = append(got, strings.TrimPrefix(f.Field, "sites[0].variables."))
		}
		if strings.Join(got, " ") != "a b k z" {
			t.Fatalf("got %v", got)
		}
	}
}

// What one profile gets wrong at many sites is told once.
func TestSharedFaultIsToldOnce(t *testing.T) {
	inv, err := Decode("city.yaml", strings.NewReader(profiledBase()))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []SiteID{"b-2", "b-3"} {
		s := inv.Sites[0]
		s.ID = id
		inv.Sites = append(inv.Sites, s)
	}
	inv.Profiles[1].Segments[0].Port = Given("wn12345")
	faults, ok := errors.AsType[Faults](Validate(inv))
	if !ok || len(faults) != 1 || faults[0].Field != "profiles[1].segments[0].port" || !strings.HasSuffix(faults[0].Text, "(from profile small) (and at 2 more)") {
		t.Errorf("got %v", faults)
	}
}

// The text of a field of a profile is a value, a variable, or refused; what is
// read is written the same.
func FuzzValue(f *testing.F) {
	for _, s := range []string{"", "eth2", "${x}", "$x", "${}", "${x}${y}", "{{x}}", "1492", "10.64.0.1", "fd00::/48", "<no value>", "${X}", " ${x}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		check(t, new(Value[string]), new(Value[string]), s)
		check(t, new(Value[int]), new(Value[int]), s)
		check(t, new(Value[uint32]), new(Value[uint32]), s)
		var v Value[string]
		if err := v.UnmarshalText([]byte(s)); err == nil && v.Variable() == "" && (v.Literal() != s || residue(s) != "") {
			t.Errorf("%q was read as %q", s, v.Literal())
		}
		for _, kind := range VariableTypes {
			d := Variable{Name: "x", Type: kind, Choices: []VariableValue{"a"}}
			if d.refuses(VariableValue(s)) == "" && (s == "" || residue(s) != "") {
				t.Errorf("%q is taken for a value of type %s", s, kind)
			}
		}
	})
}

func check[T interface {
	UnmarshalText([]byte) error
	MarshalText() ([]byte, error)
}](t *testing.T, v, again T, s string,
) {
	if v.UnmarshalText([]byte(s)) != nil {
		return
	}
	text, err := v.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if err := again.UnmarshalText(text); err != nil || !reflect.DeepEqual(v, again) {
		t.Errorf("%q was written as %q, and read as %v, %v", s, text, again, err)
	}
}
