package inventory_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

// pfx is a prefix of a test; the zero Prefix for "".
func pfx(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

// One slip in the city's inventory gives one fault, at its field.
func TestValidateNamesTheSlip(t *testing.T) {
	type inv = inventory.Inventory
	for name, tt := range map[string]struct {
		slip        func(*inv)
		field, want string
	}{
		"no owner":           {func(i *inv) { i.Org = "" }, "org", "owner organisation"},
		"name missing":       {func(i *inv) { i.Carriers[0].Name = "" }, "carriers[0].name", "is missing"},
		"name with control":  {func(i *inv) { i.Sites[5].Name = "a\tb" }, "sites[5].name", "control character"},
		"name with space":    {func(i *inv) { i.Sites[5].Name = "a " }, "sites[5].name", "begins or ends"},
		"name too long":      {func(i *inv) { i.Sites[5].Name = strings.Repeat("ô", 301) }, "sites[5].name", "longer than 300"},
		"name not UTF-8":     {func(i *inv) { i.Sites[5].Name = "\xff" }, "sites[5].name", "not UTF-8"},
		"unit code":          {func(i *inv) { i.Units[1].Codes[0].Code = "123" }, "units[1].codes[0].code", "want 5 digits"},
		"date":               {func(i *inv) { i.Units[1].Codes[0].ValidFrom = "1/7/2025" }, "units[1].codes[0].valid_from", "want YYYY-MM-DD"},
		"validity backwards": {func(i *inv) { i.Units[1].Codes[0].ValidTo = "2025-01-01" }, "units[1].codes[0].valid_to", "not after"},
		"no code":            {func(i *inv) { i.Units[1].Codes = nil }, "units[1].codes", "at least one"},
		"codes overlap in time": {func(i *inv) {
			c := i.Units[1].Codes[0]
			c.Code = "99999"
			i.Units[1].Codes = append(i.Units[1].Codes, c)
		}, "units[1].codes[1].valid_from", "one code at a time"},
		"hub with hubs":          {func(i *inv) { siteAt(i, "hub-1").Hubs = []inventory.SiteID{"hub-2"} }, "hubs", "no hubs of its own"},
		"BFD of a hub":           {func(i *inv) { siteAt(i, "hub-1").BFDIntervalMS = 300 }, "bfd_interval_ms", "follows its edges"},
		"BFD too fast":           {func(i *inv) { siteAt(i, "b-01").BFDIntervalMS = 50 }, "bfd_interval_ms", "not in 100 to 10000"},
		"hub twice":              {func(i *inv) { siteAt(i, "b-01").Hubs = []inventory.SiteID{"hub-1", "hub-1"} }, "hubs[1]", "named twice"},
		"segment missing":        {func(i *inv) { s := siteAt(i, "s-26740"); s.Segments = s.Segments[1:] }, "segments", "staff missing"},
		"segment twice":          {func(i *inv) { s := siteAt(i, "b-01"); s.Segments[1].Kind = inventory.Staff }, "segments[1].kind", "listed twice"},
		"segment unknown":        {func(i *inv) { s := siteAt(i, "b-01"); s.Segments[1].Kind = "vault" }, "segments[1].kind", "unknown value"},
		"serial twice":           {func(i *inv) { i.Devices[9].Serial = strings.ToLower(i.Devices[3].Serial) }, "devices[9].serial", "duplicate serial"},
		"serial form":            {func(i *inv) { i.Devices[9].Serial = "../x" }, "devices[9].serial", "not a serial number"},
		"device nowhere":         {func(i *inv) { i.Devices[9].Site = "nowhere" }, "devices[9].site", "unknown site"},
		"role at the wrong site": {func(i *inv) { i.Devices[9].Role = inventory.RoleHub }, "devices[9].role", "does not fit"},
		"circuit nowhere":        {func(i *inv) { circuitAt(i, "c-26740-1").Site = "nowhere" }, "site", "unknown site"},
		"same WAN address":       {func(i *inv) { circuitAt(i, "c-hub-2-1").Address = circuitAt(i, "c-hub-1-1").Address }, "address", "has the address 192.0.2.10 too"},
		"broadcast address":      {func(i *inv) { circuitAt(i, "c-hub-2-1").Address = pfx("192.0.2.31/28") }, "address", "broadcast"},
		"address of PPPoE":       {func(i *inv) { circuitAt(i, "c-26740-1").Address = pfx("192.0.2.77/28") }, "address", "no fixed address"},
		"CGNAT space":            {func(i *inv) { circuitAt(i, "c-hub-2-1").Address = pfx("100.64.1.2/28") }, "address", "RFC 6598"},
		"multicast":              {func(i *inv) { circuitAt(i, "c-hub-2-1").Address = pfx("224.0.0.9/28") }, "address", "not a unicast"},
		"legacy on a circuit":    {func(i *inv) { siteAt(i, "b-01").Legacy = pfx("192.0.2.0/28") }, "sites[0].legacy", "overlaps circuit"},
		"pool of other family": {func(i *inv) {
			i.Pools = append(i.Pools, inventory.Pool{ID: "z", Kind: inventory.PoolSite4, Prefix: pfx("fd00::/48"), Bits: 52})
		}, "pools[4].prefix", "wrong address family"},
		"pool of unknown kind": {func(i *inv) {
			i.Pools = append(i.Pools, inventory.Pool{ID: "z", Kind: "site5", Prefix: pfx("10.0.0.0/16"), Bits: 20})
		}, "pools[4].kind", "unknown value"},
		"block outside pool":    {func(i *inv) { i.Allocations[0].Prefix = pfx("172.30.0.1/32") }, "allocations[0].prefix", "is not a /32 of pool"},
		"two blocks, one owner": {func(i *inv) { i.Allocations[1].Owner = i.Allocations[0].Owner }, "allocations[1].owner", "already"},
		"owner of other kind":   {func(i *inv) { i.Allocations[0].Owner = "site/s-1" }, "allocations[0].owner", "not an owner"},
		"block of no pool":      {func(i *inv) { i.Allocations[0].Pool = "none" }, "allocations[0].pool", "unknown pool"},
		"block twice":           {func(i *inv) { i.Allocations[1].Prefix = i.Allocations[0].Prefix }, "allocations[1].prefix", "overlapping prefix"},
		"app without prefix":    {func(i *inv) { i.Applications[0].Prefixes = nil }, "applications[0].prefixes", "at least one prefix"},
		"app without port":      {func(i *inv) { i.Applications[0].Ports = nil }, "applications[0].ports", "at least one port"},
		"app nowhere":           {func(i *inv) { i.Applications[0].Site = "nowhere" }, "applications[0].site", "unknown site"},
		"app at other site":     {func(i *inv) { i.Applications[0].Prefixes = []netip.Prefix{pfx("10.64.32.1/32")} }, "applications[0].prefixes[0]", "not inside a segment in use of site \"hub-2\""},
		"app in unused segment": {func(i *inv) { i.Applications[0].Prefixes = []netip.Prefix{pfx("10.64.18.1/32")} }, "applications[0].prefixes[0]", "not inside a segment in use"},
		"app at no hub": {func(i *inv) {
			i.Applications[0].Site = ""
			i.Applications[0].Prefixes = []netip.Prefix{pfx("10.65.0.1/32")}
		}, "applications[0].prefixes[0]", "of a hub site"},
		"app too wide":          {func(i *inv) { i.Applications[0].Prefixes = []netip.Prefix{pfx("8.0.0.0/6")} }, "applications[0].prefixes[0]", "too wide"},
		"app prefix twice":      {func(i *inv) { a := &i.Applications[0]; a.Prefixes = append(a.Prefixes, a.Prefixes[0]) }, "applications[0].prefixes[2]", "listed twice"},
		"loss in percent":       {func(i *inv) { i.Applications[0].Class.LossRatio = 2 }, "applications[0].class.loss_ratio", "2 is not in 0 to 1"},
		"ports backwards":       {func(i *inv) { i.Applications[0].Ports[0].To = 1 }, "applications[0].ports[0].to", "runs backwards"},
		"port of ICMP":          {func(i *inv) { i.Applications[0].Ports[0].Proto = inventory.ICMP }, "applications[0].ports[0].from", "icmp has no ports"},
		"port zero":             {func(i *inv) { i.Applications[0].Ports[0].From = 0 }, "applications[0].ports[0].from", "starts at 1"},
		"permit to nothing":     {func(i *inv) { i.Permits[0].ToApp = "" }, "permits[0].to_app", "one of to_app, to_segment and to_internet"},
		"permit to unknown app": {func(i *inv) { i.Permits[0].ToApp = "none" }, "permits[0].to_app", "unknown application"},
		"permit app with ports": {func(i *inv) { i.Permits[0].Ports = []inventory.PortRange{{Proto: inventory.TCP, From: 1, To: 1}} }, "permits[0].ports", "brings its own"},
		"permit from nothing":   {func(i *inv) { i.Permits[0].From = nil }, "permits[0].from", "at least one segment"},
		"permit from twice":     {func(i *inv) { i.Permits[0].From = []inventory.SegmentKind{inventory.Staff, inventory.Staff} }, "permits[0].from[1]", "listed twice"},
		"permit without ports":  {func(i *inv) { i.Permits[0].ToApp, i.Permits[0].ToSeg = "", inventory.DMZ }, "permits[0].ports", "names its ports"},
		"permit without reason": {func(i *inv) { i.Permits[0].Reason = "" }, "permits[0].reason", "is missing"},
		"too many ports":        {func(i *inv) { i.Applications[0].Ports = make([]inventory.PortRange, 1000) }, "applications[0].ports", "at most 256"},
	} {
		t.Run(name, func(t *testing.T) {
			city := sample.City()
			tt.slip(&city)
			err := inventory.Validate(city)
			faults, ok := errors.AsType[inventory.Faults](err)
			if !ok || len(faults) != 1 {
				t.Fatalf("got %v, want one fault", err)
			}
			if f := faults[0]; !strings.HasSuffix(f.Field, tt.field) || !strings.Contains(f.Text, tt.want) {
				t.Errorf("got %s, want %s: %s", f, tt.field, tt.want)
			}
		})
	}
}

func siteAt(inv *inventory.Inventory, id inventory.SiteID) *inventory.Site {
	for i := range inv.Sites {
		if inv.Sites[i].ID == id {
			return &inv.Sites[i]
		}
	}
	return nil
}

func circuitAt(inv *inventory.Inventory, id inventory.CircuitID) *inventory.Circuit {
	for i := range inv.Circuits {
		if inv.Circuits[i].ID == id {
			return &inv.Circuits[i]
		}
	}
	return nil
}

// A retired device leaves its serial to the id it comes back under.
func TestRetiredSerialMayReturn(t *testing.T) {
	city := sample.City()
	back := city.Devices[9]
	city.Devices[9].Intended = inventory.Retired
	back.ID = "d-again"
	city.Devices = append(city.Devices, back)
	if err := inventory.Validate(city); err != nil {
		t.Error(err)
	}
}

// What an import changed can be told in one line and in numbers.
func TestDiffTellsWhatChanged(t *testing.T) {
	city := sample.City()
	next := city.Normalize()
	next.Org = "other"
	next.Sites = next.Sites[1:]
	next.Circuits[4].MTU = 1400
	d := inventory.Diff(city, next)
	if got, want := d.String(), "org +0 ~1 -0, sites +0 ~0 -1, circuits +0 ~1 -0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if c := d.Counts(); c["sites"] != 1 || c["circuits"] != 1 || len(c) != 3 {
		t.Errorf("counts %v", c)
	}
	if got := inventory.Diff(city, city).String(); got != "no change" {
		t.Errorf("got %q", got)
	}
	x := city.Index()
	if u, ok := x.Unit("u-26740"); !ok || u.CodeAt(u0).Name != "Phường Sài Gòn" || len(x.UnitSites(u.ID)) != 2 {
		t.Errorf("unit %v with sites %v; want the ward office and the branch it hosts", u, x.UnitSites(u.ID))
	}
	if n := city.Count(); n["sites"] != 208 || n["permits"] != len(city.Permits) {
		t.Errorf("counts %v", n)
	}
}

// u0 is a day on which the codes of the sample are valid.
var u0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
