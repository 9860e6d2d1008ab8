package inventory

import (
	"errors"
	"strings"
	"testing"
)

const (
	carriersCSV = "id,name\nviettel,Viettel\n"
	circuitsCSV = "id,site,kind,carrier,role,down_bps,up_bps,addressing,mtu\n" +
		"c-1,b-1,ftth,viettel,primary,200000000,200000000,pppoe,1492\n" +
		"c-2,b-1,lte,vnpt,backup,0,0,cgnat,1428\n"
)

func sources(nameText ...string) []Source {
	var out []Source
	for i := 0; i < len(nameText); i += 2 {
		out = append(out, Source{nameText[i], strings.NewReader(nameText[i+1])})
	}
	return out
}

func TestImportAddsRowsToADocument(t *testing.T) {
	inv, err := Import(Inventory{}, sources("data/circuits.csv", circuitsCSV, "city.yaml", base, "data/carriers.csv", carriersCSV)...)
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Circuits) != 2 || inv.Circuits[0].Carrier != "viettel" || len(inv.Carriers) != 2 {
		t.Errorf("circuits %v, carriers %v", inv.Circuits, inv.Carriers)
	}
	again, err := Import(inv, sources("circuits.csv", circuitsCSV)...)
	if err != nil || !Diff(inv, again).Empty() {
		t.Errorf("a repeated import changes %v, error %v", Diff(inv, again), err)
	}
}

func TestImportNamesTheFault(t *testing.T) {
	for name, tt := range map[string]struct {
		files []Source
		want  []string // one per fault
	}{
		"nothing":          {nil, []string{"nothing to import"}},
		"unknown noun":     {sources("wards.csv", "id\n1\n"), []string{`wards.csv: unknown noun "wards"`}},
		"unknown kind":     {sources("city.xlsx", "PK"), []string{"city.xlsx: unknown kind of file"}},
		"two documents":    {sources("a.yaml", base, "b.yaml", base), []string{"b.yaml: a.yaml is a whole inventory already"}},
		"unknown column":   {sources("city.yaml", base, "carriers.csv", "id,name,colour\nx,X,red\n"), []string{"carriers.csv:1: colour: unknown field (want one of id, name)"}},
		"missing column":   {sources("city.yaml", base, "carriers.csv", "id\nx\n"), []string{"carriers.csv:1: name: the column is missing"}},
		"duplicate column": {sources("city.yaml", base, "carriers.csv", "id,name,id\nx,X,x\n"), []string{"carriers.csv:1: id: duplicate column"}},
		"semicolons":       {sources("city.yaml", base, "carriers.csv", "id;name\nx;X\n"), []string{`carriers.csv:1: the columns are separated by ";"; save the file with commas`}},
		"empty":            {sources("city.yaml", base, "carriers.csv", ""), []string{"carriers.csv: the file is empty"}},
		"row too short":    {sources("city.yaml", base, "carriers.csv", "id,name\nx\ny\n"), []string{"carriers.csv:2: 1 columns, the header has 2", "carriers.csv:3: 1 columns"}},
		"bad quotes":       {sources("city.yaml", base, "carriers.csv", "id,name\nx,a\"b\n"), []string{"carriers.csv:2: not well-formed CSV"}},
		"duplicate row":    {sources("city.yaml", base, "carriers.csv", "id,name\nx,X\nx,Y\n"), []string{`carriers.csv:3: id: "x" is on line 2 already`}},
		"in two files":     {sources("city.yaml", base, "a/carriers.csv", carriersCSV, "b/carriers.csv", carriersCSV), []string{`b/carriers.csv:2: "viettel" is in a/carriers.csv on line 2 too`}},
		"wrong type, once": {sources("city.yaml", base, "circuits.csv", strings.Replace(circuitsCSV, ",1428", ",much", 1)), []string{"unknown carrier \"viettel\"", `circuits.csv:3: mtu: "much" is not a whole number`}},
		"by content": {
			sources("city.yaml", base, "circuits.csv", strings.Replace(circuitsCSV, "viettel", "nobody", 1)),
			[]string{`circuits.csv:2: carrier: circuit "c-1": unknown carrier "nobody"`},
		},
		"everywhere": {
			sources("city.yaml", change("lat: 10.78", "lat: 100"), "carriers.csv", "id,name\nviettel,\n", "circuits.csv", circuitsCSV),
			[]string{`carriers.csv:2: name: carrier "viettel": is missing`, "city.yaml:9: units[0].lat"},
		},
		"unusable document": {
			sources("city.yaml", "a: [", "carriers.csv", "id,name\nx\n"),
			[]string{"carriers.csv:2: 1 columns", "city.yaml"},
		},
		"other owner": {sources("city.yaml", base, "org.csv", "org\nhanoi\n"), []string{`org.csv:2: org: "hanoi" is not "hcmc"`}},
		"bad list": {
			sources("city.yaml", base, "sites.csv", "id,unit,kind,name,hubs,lat,lon,segments\nb-1,u-1,branch,B,hub-1,1,1,staff|a|b|||c|d;dmz\\\n"),
			[]string{`sites.csv:2: segments: entry 1: 7 parts, want kind|unused|port|dhcp|dhcp_relay|reservations`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Import(Inventory{}, tt.files...)
			faults, ok := errors.AsType[Faults](err)
			if !ok || len(faults) != len(tt.want) {
				t.Fatalf("got %v, want %d faults", err, len(tt.want))
			}
			for i, w := range tt.want {
				if !strings.Contains(faults[i].String(), w) {
					t.Errorf("fault %d is %s, want %q", i, faults[i], w)
				}
			}
		})
	}
}
