package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

const validFrom = "2025-07-01" // Decision 19/2025/QĐ-TTg in force

// The carriers that sell FTTH, in the order wards are given to them.
var sellers = []inventory.CarrierID{"vnpt", "viettel", "fpt"}

// island is Côn Đảo: one path to the mainland.
const island = "26732"

// remote wards have no second fibre; by code.
var remote = map[string]bool{"26545": true, "27664": true, "27676": true}

// model builds the whole inventory.
func model(units, branches []map[string]string) (inventory.Inventory, error) {
	slices.SortFunc(units, func(a, b map[string]string) int { return cmp.Compare(a["code"], b["code"]) })
	m := &city{inv: inventory.Inventory{
		Org: "hcmc",
		Carriers: []inventory.Carrier{
			{ID: "vnpt", Name: "VNPT"},
			{ID: "viettel", Name: "Viettel"},
			{ID: "fpt", Name: "FPT Telecom"},
			{ID: "mobifone", Name: "MobiFone"},
			{ID: "tslcd", Name: "Mạng truyền số liệu chuyên dùng cấp II (VNPT)"},
		},
		Pools: []inventory.Pool{
			{ID: "site4", Kind: inventory.PoolSite4, Prefix: netip.MustParsePrefix("10.64.0.0/10"), Bits: 20},
			{ID: "site6", Kind: inventory.PoolSite6, Prefix: netip.MustParsePrefix("fd5a:7e3c:91b4::/48"), Bits: 60},
			{ID: "loopback4", Kind: inventory.PoolLoopback4, Prefix: netip.MustParsePrefix("172.16.0.0/16"), Bits: 32},
			{ID: "tunnel4", Kind: inventory.PoolTunnel4, Prefix: netip.MustParsePrefix("172.17.0.0/16"), Bits: 31},
		},
	}}
	m.hubs()
	for i, row := range units {
		if err := m.ward(i, row); err != nil {
			return inventory.Inventory{}, fmt.Errorf("unit %s: %w", row["code"], err)
		}
	}
	for _, row := range branches {
		if err := m.branch(row); err != nil {
			return inventory.Inventory{}, fmt.Errorf("branch %s: %w", row["model_no"], err)
		}
	}
	m.inv.Applications, m.inv.Permits, m.inv.Profiles = applications(), permits(), profiles()
	return m.inv, nil
}

type city struct {
	inv      inventory.Inventory
	metronet int // sites attached to it so far
}

// hubs adds the two data centres with their blocks, which the addresses of the
// applications lie in.
func (m *city) hubs() {
	m.inv.Units = append(m.inv.Units, inventory.Unit{
		ID: "u-cds", Kind: inventory.Department, Lat: 10.7829, Lon: 106.6934,
		Codes: []inventory.UnitCode{{Code: "TT-CDS", Name: "Trung tâm Chuyển đổi số Thành phố", ValidFrom: validFrom}},
	})
	for i, h := range []struct {
		name     string
		lat, lon float64
		wan      []wan
	}{
		{"Trung tâm dữ liệu 1 – Công viên phần mềm Quang Trung", 10.8527, 106.6286, []wan{{"viettel", "192.0.2.10/28"}, {"vnpt", "192.0.2.130/28"}}},
		{"Trung tâm dữ liệu 2 – Khu Công nghệ cao", 10.8411, 106.8098, []wan{{"vnpt", "198.51.100.10/28"}, {"fpt", "198.51.100.130/28"}}},
	} {
		n := i + 1
		id := inventory.SiteID(fmt.Sprintf("hub-%d", n))
		m.inv.Sites = append(m.inv.Sites, inventory.Site{
			ID: id, Unit: "u-cds", Kind: inventory.Hub, Name: h.name, Lat: h.lat, Lon: h.lon, People: 40, Modelled: true,
			Segments: segments(map[inventory.SegmentKind]string{
				inventory.Public: "trung tâm dữ liệu không tiếp công dân",
				inventory.Kiosk:  "trung tâm dữ liệu không tiếp công dân",
			}),
		})
		m.device(id, fmt.Sprintf("hub-%d", n), fmt.Sprintf("WN-HUB-%d", n), inventory.RoleHub)
		for j, w := range append(h.wan, wan{"tslcd", fmt.Sprintf("198.19.0.%d/29", 8*n+2)}) {
			kind := inventory.FTTH
			if w.carrier == "tslcd" {
				kind = inventory.Metronet
			}
			m.inv.Circuits = append(m.inv.Circuits, inventory.Circuit{
				ID: inventory.CircuitID(fmt.Sprintf("c-hub-%d-%d", n, j+1)), Site: id, Kind: kind, Carrier: w.carrier, Role: role(j),
				DownBPS: 10 * inventory.Gbps, UpBPS: 10 * inventory.Gbps, Addressing: inventory.Static,
				Address: netip.MustParsePrefix(w.address), MTU: 1500, Cost: 10 * (j + 1),
			})
		}
		m.inv.Allocations = append(
			m.inv.Allocations,
			inventory.Allocation{Owner: inventory.SiteOwner(id), Pool: "site4", Prefix: netip.MustParsePrefix(fmt.Sprintf("10.64.%d.0/20", 16*i))},
			inventory.Allocation{Owner: inventory.SiteOwner(id), Pool: "site6", Prefix: netip.MustParsePrefix(fmt.Sprintf("fd5a:7e3c:91b4:%x::/60", 16*i))},
		)
	}
}

type wan struct {
	carrier inventory.CarrierID
	address string
}

// ward adds the i-th unit with its office, device and circuits.
func (m *city) ward(i int, row map[string]string) error {
	lat, lon, err := coordinates(row)
	if err != nil {
		return err
	}
	kind, ok := map[string]inventory.UnitKind{"phuong": inventory.Ward, "xa": inventory.Commune, "dac_khu": inventory.SpecialZone}[row["type"]]
	if !ok {
		return fmt.Errorf("%w: unknown type %q", inventory.ErrInvalid, row["type"])
	}
	code := row["code"]
	unit, site := inventory.UnitID("u-"+code), inventory.SiteID("s-"+code)
	m.inv.Units = append(m.inv.Units, inventory.Unit{
		ID: unit, Kind: kind, Codes: []inventory.UnitCode{{Code: code, Name: row["name_vi"], ValidFrom: validFrom}},
		FormerProvince: row["former_province"], Lat: lat, Lon: lon, Predecessors: predecessors(row["predecessors"]),
	})
	m.inv.Sites = append(m.inv.Sites, inventory.Site{
		ID: site, Unit: unit, Kind: inventory.WardOffice, Name: "Ủy ban nhân dân " + lowerKind(row["name_vi"]), Hubs: hubOrder(i),
		Lat: lat, Lon: lon, People: 60 + 7*i%61, Profile: wardProfile,
	})
	m.device(site, code, "WN-"+code, inventory.RoleEdge)
	a, b := sellers[i%3], sellers[(i+1+i/6%2)%3]
	only := sellers[i/9%3]
	switch {
	case code == island:
		m.circuit(site, inventory.FTTH, "vnpt", 100)
	case remote[code]:
		m.circuit(site, inventory.FTTH, a, 100)
		m.circuit(site, inventory.LTE, "mobifone", 40)
	case i%9 == 4 && only == "fpt": // has no mobile network
		m.circuit(site, inventory.FTTH, only, 300)
		m.circuit(site, inventory.FTTH, only, 150)
	case i%9 == 4:
		m.circuit(site, inventory.FTTH, only, 300)
		m.circuit(site, inventory.LTE, only, 50)
	default:
		m.circuit(site, inventory.FTTH, a, 300)
		m.circuit(site, inventory.Metronet, "tslcd", 200)
		if i%2 == 0 {
			m.circuit(site, inventory.FTTH, b, 150)
		} else if i%4 == 1 {
			m.circuit(site, inventory.LTE, "mobifone", 50)
		}
	}
	return nil
}

// branch adds one modelled branch in its host ward.
func (m *city) branch(row map[string]string) error {
	lat, lon, err := coordinates(row)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(row["model_no"])
	if err != nil {
		return fmt.Errorf("%w: model_no %q", inventory.ErrInvalid, row["model_no"])
	}
	id := inventory.SiteID(fmt.Sprintf("b-%02d", n))
	m.inv.Sites = append(m.inv.Sites, inventory.Site{
		ID: id, Unit: inventory.UnitID("u-" + row["host_unit_code"]), Kind: inventory.Branch,
		Name: fmt.Sprintf("Chi nhánh số %d Trung tâm Phục vụ hành chính công (%s cũ)", n, row["former_district_unit"]),
		Hubs: hubOrder(n), Lat: lat, Lon: lon, People: 24 + 5*n%17, Modelled: true,
		Profile: branchProfile,
	})
	m.device(id, fmt.Sprintf("b-%02d", n), fmt.Sprintf("WN-B%02d", n), inventory.RoleEdge)
	if row["host_unit_code"] == island {
		m.circuit(id, inventory.FTTH, "vnpt", 100)
		return nil
	}
	m.circuit(id, inventory.FTTH, sellers[n%3], 300)
	m.circuit(id, inventory.FTTH, sellers[(n+1)%3], 200)
	m.circuit(id, inventory.Metronet, "tslcd", 200)
	return nil
}

func (m *city) device(site inventory.SiteID, name, serial string, role inventory.DeviceRole) {
	m.inv.Devices = append(m.inv.Devices, inventory.Device{
		ID: inventory.DeviceID("d-" + name), Serial: serial, Site: site,
		Platform: inventory.LinuxEdge, Role: role, Intended: inventory.InService,
	})
}

// circuit adds the next circuit of an edge site; mbps is the rate downstream.
// Its MTU comes from the site's profile.
func (m *city) circuit(site inventory.SiteID, kind inventory.CircuitKind, by inventory.CarrierID, mbps inventory.BitRate) {
	n := 0
	for _, k := range m.inv.Circuits {
		if k.Site == site {
			n++
		}
	}
	k := inventory.Circuit{
		ID: inventory.CircuitID(fmt.Sprintf("c-%s-%d", strings.TrimPrefix(string(site), "s-"), n+1)), Site: site, Kind: kind, Carrier: by,
		Role: role(n), DownBPS: mbps * inventory.Mbps, UpBPS: mbps * inventory.Mbps, Cost: 10 * (n + 1),
	}
	switch kind {
	case inventory.Metronet: // a /30 per site, the site has its second host
		k.Addressing = inventory.Static
		k.Address = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(m.metronet >> 6), byte(m.metronet&63)<<2 + 2}), 30)
		m.metronet++
	case inventory.LTE, inventory.FiveG:
		k.Addressing, k.Cost = inventory.CGNAT, 100
		k.UpBPS = k.DownBPS / 4
	default:
		k.Addressing = inventory.PPPoE
	}
	m.inv.Circuits = append(m.inv.Circuits, k)
}

func role(n int) inventory.CircuitRole {
	if n == 0 {
		return inventory.Primary
	}
	return inventory.Backup
}

func hubOrder(i int) []inventory.SiteID {
	if i%2 == 0 {
		return []inventory.SiteID{"hub-1", "hub-2"}
	}
	return []inventory.SiteID{"hub-2", "hub-1"}
}

func segments(unused map[inventory.SegmentKind]string) []inventory.Segment {
	out := make([]inventory.Segment, len(inventory.SegmentKinds))
	for i, k := range inventory.SegmentKinds {
		out[i] = inventory.Segment{Kind: k, Unused: unused[k]}
	}
	return out
}

func coordinates(row map[string]string) (lat, lon float64, err error) {
	if lat, err = strconv.ParseFloat(row["lat"], 64); err == nil {
		lon, err = strconv.ParseFloat(row["lon"], 64)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%w: coordinates %q, %q", inventory.ErrInvalid, row["lat"], row["lon"])
	}
	return lat, lon, nil
}

// lowerKind writes "Phường X" as it stands inside a sentence.
func lowerKind(name string) string {
	for _, k := range []string{"Phường", "Xã", "Đặc khu"} {
		if rest, ok := strings.CutPrefix(name, k); ok {
			return strings.ToLower(k) + rest
		}
	}
	return name
}

// predecessors splits the merged units at commas outside of brackets; a unit
// that was not merged has none.
func predecessors(s string) []string {
	if s == "" || s == "giữ nguyên" {
		return nil
	}
	var out []string
	depth, start := 0, 0
	for i, r := range s {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, strings.TrimSpace(s[start:i]))
				start = i + 1
			}
		}
	}
	return append(out, strings.TrimSpace(s[start:]))
}
