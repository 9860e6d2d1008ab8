package inventory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/text/encoding/charmap"
)

// decodeFaults decodes text and returns its faults, of which there are some.
func decodeFaults(t *testing.T, text string) Faults {
	t.Helper()
	inv, err := Decode("city.yaml", strings.NewReader(text))
	faults, ok := errors.AsType[Faults](err)
	if !ok {
		t.Fatalf("error is %v, want faults", err)
	}
	if !errors.Is(err, ErrInvalid) || inv.Org != "" || faults.Hint() == "" {
		t.Errorf("want an error that is ErrInvalid with a hint, and no inventory; got %v and %+v", err, inv)
	}
	return faults
}

func TestBaseDocumentIsValid(t *testing.T) {
	if _, err := Decode("city.yaml", strings.NewReader("\ufeff"+base)); err != nil {
		t.Fatal(err)
	}
}

// Each slip gives exactly the fault that names it, with its line and field.
func TestDecodeNamesTheFault(t *testing.T) {
	for name, tt := range map[string]struct {
		doc  string
		want string // of Fault.String
	}{
		"unknown field":     {change("    kind: hub\n", "    kind: hub\n    colour: red\n"), `city.yaml:17: sites[0].colour: unknown field`},
		"duplicate key":     {change("    kind: hub\n", "    kind: hub\n    kind: hub\n"), `city.yaml:17: sites[0].kind: duplicate key; the first is on line 16`},
		"text for number":   {change("mtu: 1492", "mtu: big"), `city.yaml:37: circuits[0].mtu: "big" is not a value of type whole number`},
		"number for text":   {change(`"26740"`, `26740`), `city.yaml:8: units[0].codes[0].code: "26740" is not a value of type text; put it in quotes`},
		"list for mapping":  {change("org: hcmc", "org: [hcmc]"), `city.yaml:3: org: a list is not a value of type text`},
		"nothing for list":  {change("devices: []", "devices:"), `city.yaml:27: devices: nothing is not a list`},
		"negative rate":     {change("up_bps: 100000000", "up_bps: -1"), `circuits[0].up_bps: "-1" is not a whole number from 0`},
		"infinite latitude": {change("lat: 10.78", "lat: .inf"), `units[0].lat: ".inf" is not a decimal number`},
		"other version":     {change("wardnet/v1", "wardnet/v9"), `city.yaml:1: apiVersion: "wardnet/v9" is not known here`},
		"no version":        {change("apiVersion: wardnet/v1\n", ""), `apiVersion is missing`},
		"alias":             {change("org: hcmc", "org: &o hcmc"), `city.yaml:3: org: anchors and aliases are not accepted`},
		"tag":               {change("org: hcmc", "org: !!binary aGNtYw=="), `city.yaml:3: org: tags (!!binary) are not accepted`},
		"two documents":     {base + "---\na: b\n", `a second document begins here`},
		"not YAML":          {"a: [1\nb: }", `not well-formed YAML`},
		"empty":             {"", `the document is empty`},
		"a list":            {"- 1", `not an inventory; the document begins with "apiVersion: wardnet/v1"`},
		"unknown carrier":   {change("carrier: vnpt", "carrier: vnptt"), `city.yaml:32: circuits[0].carrier: circuit "c-1": unknown carrier "vnptt"`},
		"site without hub":  {change("    hubs: [hub-1]\n", ""), `sites[1].hubs: site "b-1": a site without hub cannot be reached`},
		"hub is no hub":     {change("hubs: [hub-1]", "hubs: [b-1]"), `city.yaml:24: sites[1].hubs[0]: site "b-1": site "b-1" is a branch, not a hub`},
		"unknown unit":      {change("unit: u-1\n    kind: hub", "unit: u-2\n    kind: hub"), `city.yaml:15: sites[0].unit: site "hub-1": unknown unit "u-2"`},
		"duplicate id":      {change("id: b-1", "id: hub-1", "site: b-1", "site: hub-1", "pppoe", "static\n    address: 192.0.2.2/30"), `city.yaml:20: sites[1].id: site "hub-1": the id is taken by sites[0]`},
		"bad id":            {change("id: c-1", "id: c--1"), `circuits[0].id: circuit "c--1": an id is`},
		"latitude":          {change("lat: 10.78", "lat: 106.7"), `city.yaml:9: units[0].lat: unit "u-1": 106.7 is not in -90 to 90`},
		"no coordinates":    {change("lat: 10.78\n    lon: 106.7", "lat: 0\n    lon: 0"), `coordinates are missing`},
		"MTU":               {change("mtu: 1492", "mtu: 900"), `circuits[0].mtu: circuit "c-1": 900 is not in 1280 to 9216`},
		"rate":              {change("down_bps: 100000000", "down_bps: 4000000000000"), `circuits[0].down_bps`},
		"kind":              {change("kind: ftth", "kind: adsl"), `circuits[0].kind: circuit "c-1": unknown value "adsl" (want ftth, metronet, lte, 5g)`},
		"name not NFC":      {change("Phường", "Phu\u031bo\u031b\u0300ng"), `is not in Unicode normal form NFC`},
		"shared space":      {change("10.64.0.0/10", "100.64.0.0/10"), `which carriers use on our WAN ports`},
		"host bits":         {change("10.64.0.0/10", "10.65.0.0/10"), `did you mean 10.64.0.0/10?`},
		"overlapping pools": {change("pools:\n", "pools:\n  - {id: s5, kind: site4, prefix: 10.96.0.0/12, bits: 20}\n"), `pools[0].prefix: overlapping prefix: pool "s5" (10.96.0.0/12) overlaps pool "s4" (10.64.0.0/10)`},
		"legacy in pool":    {change("    hubs: [hub-1]\n", "    hubs: [hub-1]\n    legacy: 10.70.0.0/24\n"), `sites[1].legacy: overlapping prefix: legacy prefix of site "b-1" (10.70.0.0/24) overlaps pool "s4"`},
		"circuit in pool":   {change("pppoe", "static\n    address: 10.64.0.2/30"), `circuits[0].address: overlapping prefix: circuit "c-1" (10.64.0.0/30) overlaps pool`},
		"NAT at a hub":      {change("site: b-1", "site: hub-1", "pppoe", "cgnat"), `a hub's circuit is dialled, so it is static, not "cgnat"`},
		"private hub":       {change("site: b-1", "site: hub-1", "pppoe", "static\n    address: 192.168.0.2/30"), `edges cannot dial a hub behind translation`},
		"static, no address": {
			change("pppoe", "static"), `circuits[0].address: circuit "c-1": a static circuit needs its WAN address`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			faults := decodeFaults(t, tt.doc)
			if len(faults) != 1 || !strings.Contains(faults[0].String(), tt.want) {
				t.Errorf("got  %v\nwant one fault with %q", faults, tt.want)
			}
		})
	}
}

// Faults of form and of content are told together, in the order of lines.
func TestAllFaultsAtOnce(t *testing.T) {
	faults := decodeFaults(t, change(
		"org: hcmc", "org: hcmc\nowner: me", "lat: 10.78", "lat: north", "carrier: vnpt", "carrier: none", "mtu: 1492", "mtu: 1", "hubs: [hub-1]", "hubs: [nowhere]",
	))
	want := []string{"owner: unknown field", "units[0].lat", "unknown site \"nowhere\"", "unknown carrier", "1 is not in 1280"}
	if len(faults) != len(want) {
		t.Fatalf("%d faults, want %d:\n%v", len(faults), len(want), faults)
	}
	for i, w := range want {
		if !strings.Contains(faults[i].String(), w) {
			t.Errorf("fault %d is %s, want %q", i, faults[i], w)
		}
	}
	if text := faults.Error(); strings.Count(text, "\n") != len(want) {
		t.Errorf("the error does not list one fault per line:\n%s", text)
	}
}

func TestDuplicateCode(t *testing.T) {
	second := `  - id: u-2
    kind: ward
    codes:
      - {code: "26740", name: Phường Khác, valid_from: %q}
    lat: 10.7
    lon: 106.7
carriers:`
	first := change(`valid_from: "2025-07-01"`, `valid_from: "2025-07-01", valid_to: "2027-01-01"`)
	faults := decodeFaults(t, strings.Replace(first, "carriers:", fmt.Sprintf(second, "2026-12-31"), 1))
	if len(faults) != 1 || !strings.Contains(faults[0].Text, `duplicate code 26740: unit "u-1" has it at the same time`) {
		t.Errorf("got %v, want the duplicate code", faults)
	}
	if _, err := Decode("x", strings.NewReader(strings.Replace(first, "carriers:", fmt.Sprintf(second, "2027-01-01"), 1))); err != nil {
		t.Errorf("a code that was given up may be used again: %v", err)
	}
}

// A document in another encoding is refused by its name.
func TestEncodings(t *testing.T) {
	units := utf16.Encode([]rune(base))
	little := make([]byte, 0, 2*len(units))
	for _, u := range units {
		little = binary.LittleEndian.AppendUint16(little, u)
	}
	cp1258 := []byte(strings.ReplaceAll(base, "Phường Sài Gòn", "Phý\xf5\xcc"+"ng Sa\xccI Go\xccn"))
	cp1252, err := charmap.Windows1252.NewEncoder().String(strings.NewReplacer("Phường Sài Gòn", "Fenêtre Écluse", "dữ liệu", "données").Replace(base))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"UTF-16 with mark":    {append([]byte{0xff, 0xfe}, little...), "UTF-16"},
		"UTF-16 without mark": {little, "UTF-16 without a byte order mark"},
		"Windows-1258":        {cp1258, "Windows-1258"},
		"Windows-1252":        {[]byte(cp1252), "Windows-1252"},
		"binary":              {[]byte(base + "\x00"), "not a text file"},
	} {
		t.Run(name, func(t *testing.T) {
			faults := decodeFaults(t, string(tt.data))
			if len(faults) != 1 || !strings.Contains(faults[0].Text, tt.want) {
				t.Errorf("got %v, want %q", faults, tt.want)
			}
			_, err := DecodeCSV("units", "units.csv", bytes.NewReader(tt.data))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("CSV: got %v, want %q", err, tt.want)
			}
		})
	}
}

// endless counts what is read of it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// A file that is too large is refused without reading it to its end.
func TestTooLarge(t *testing.T) {
	e := &endless{}
	_, err := Decode("big.yaml", io.LimitReader(e, 200<<20))
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "larger than 32 MiB") {
		t.Fatalf("got %v, want a refusal", err)
	}
	if e.read > MaxDocument+1<<20 {
		t.Errorf("%d bytes were read of a file of 200 MiB", e.read)
	}
	if _, err := Decode("brackets.yaml", strings.NewReader(strings.Repeat("[", maxValues+1))); err == nil || !strings.Contains(err.Error(), "this is not an inventory") {
		t.Errorf("got %v, want a refusal of nothing but brackets", err)
	}
}

// A hopeless document gives a bounded list.
func TestFaultsAreBounded(t *testing.T) {
	faults := decodeFaults(t, base+strings.Repeat("x: 1\n", 3000))
	if len(faults) != maxFaults+1 || faults[maxFaults].Text != "and 2000 more faults" {
		t.Errorf("%d faults, the last is %v", len(faults), faults[len(faults)-1])
	}
}
