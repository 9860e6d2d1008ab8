package incident

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/inventory"
)

// tally counts an incident's symptoms for its words.
type tally struct {
	byKind    map[anomaly.Kind]int
	reporters map[inventory.DeviceID]bool
	dark      []string // sites without a session
	degraded  bool     // nothing is down, only worse
}

func count(topo *Topology, a *active) tally {
	c := tally{byKind: map[anomaly.Kind]int{}, reporters: map[inventory.DeviceID]bool{}, degraded: true}
	for _, t := range a.symptoms {
		c.byKind[t.f.Kind]++
		c.reporters[t.f.Device] = true
		if t.f.Kind == anomaly.DeviceDown && !t.conseq {
			s, _ := topo.subjectOf(t.f)
			c.dark = append(c.dark, topo.siteName(s.site))
		}
		switch t.f.Kind {
		case anomaly.CircuitDown, anomaly.TunnelDown, anomaly.BFDDown, anomaly.BGPDown, anomaly.DeviceDown:
			c.degraded = false
		}
	}
	slices.Sort(c.dark)
	return c
}

// describe writes title, severity, evidence and suggestions.
func describe(topo *Topology, a *active) {
	c := count(topo, a)
	a.Title = title(topo, a, c)
	a.Severity, a.SeverityWhy = severity(a, c)
	witnesses := len(c.reporters)
	if a.Cause.Kind == CauseCarrier || a.Cause.Kind == CauseHub {
		witnesses = len(a.Members)
	}
	a.Confidence = max(0.3, min(1-math.Pow(2, -float64(witnesses-1)), 0.999))
	a.Evidence = evidenceLines(topo, a, c)
	a.Suggested = suggestions[a.Cause.Kind]
}

func title(topo *Topology, a *active, c tally) map[string]string {
	id, n := a.Cause.ID, len(a.Members)
	where := id
	if n > 0 {
		where = topo.siteName(a.Members[0])
	}
	vi, en := "mất kết nối", "down"
	if c.degraded {
		vi, en = "suy giảm chất lượng", "degraded"
	}
	carrier := func(k inventory.CarrierID) string {
		if name := topo.carriers[k]; name != "" {
			return name
		}
		return string(k)
	}
	switch a.Cause.Kind {
	case CauseCarrier:
		name := carrier(inventory.CarrierID(id))
		return words("Nhà mạng %s %s tại %d điểm", "Carrier %s %s at %d sites", name, vi, en, n)
	case CauseHub:
		return words("Trung tâm %s %s, ảnh hưởng %d điểm", "Hub %s %s, %d sites affected", topo.siteName(inventory.SiteID(id)), vi, en, n)
	case CauseSite:
		return words2("Điểm %s %s hoàn toàn", "Site %s %s: no way out is left", topo.siteName(inventory.SiteID(id)), vi, en)
	case CauseCircuit:
		k := carrier(topo.circuits[inventory.CircuitID(id)].Carrier)
		return words2("Đường truyền "+escape(k)+" tại %s %s", "Circuit of "+escape(k)+" at %s %s", where, vi, en)
	case CauseDevice:
		return words2("Thiết bị tại %s %s quản trị", "Device at %s: management %s", where, vi, en)
	case CauseTunnel:
		return words2("Đường hầm "+escape(id)+" (%s) %s", "Tunnel "+escape(id)+" (%s) %s", where, vi, en)
	}
	return words2("Bất thường tại %s: %s", "Anomaly at %s: %s", where, vi, en)
}

func escape(s string) string { return strings.ReplaceAll(s, "%", "%%") }

func words(vi, en, name, stateVI, stateEN string, n int) map[string]string {
	return map[string]string{"vi": fmt.Sprintf(vi, name, stateVI, n), "en": fmt.Sprintf(en, name, stateEN, n)}
}

func words2(vi, en, name, stateVI, stateEN string) map[string]string {
	return map[string]string{"vi": fmt.Sprintf(vi, name, stateVI), "en": fmt.Sprintf(en, name, stateEN)}
}

func severity(a *active, c tally) (anomaly.Severity, string) {
	switch {
	case a.Cause.Kind == CauseHub:
		return anomaly.Critical, fmt.Sprintf("a hub fails; %d sites depend on it", len(a.Members))
	case len(c.dark) > 0 && a.Cause.Kind != CauseDevice:
		return anomaly.Critical, fmt.Sprintf("%d of %d sites have no way out left", len(c.dark), len(a.Members))
	case len(a.Members) >= 10:
		return anomaly.Critical, fmt.Sprintf("%d sites are affected", len(a.Members))
	case c.degraded:
		return anomaly.Minor, "service is worse, nothing is down"
	case a.Cause.Kind == CauseCarrier || a.Cause.Kind == CauseSite:
		return anomaly.Major, fmt.Sprintf("%d sites run without a spare path", len(a.Members))
	case a.Cause.Kind == CauseCircuit:
		return anomaly.Major, "the site runs without a spare path"
	}
	return anomaly.Minor, "one session of several is affected"
}

func evidenceLines(topo *Topology, a *active, c tally) []string {
	var out []string
	for _, k := range anomaly.Kinds {
		if n := c.byKind[k]; n > 0 {
			out = append(out, fmt.Sprintf("%s: %d findings", k, n))
		}
	}
	out = append(out, fmt.Sprintf("%d devices report it", len(c.reporters)))
	if len(c.dark) > 0 {
		out = append(out, fmt.Sprintf("%d sites went dark: %s", len(c.dark), strings.Join(c.dark[:min(len(c.dark), 20)], ", ")))
	}
	if a.Cause.Kind == CauseCarrier {
		other := 0
		for _, site := range a.Members {
			for _, id := range topo.circuitsAt[site] {
				if string(topo.circuits[id].Carrier) != a.Cause.ID {
					other++
					break
				}
			}
		}
		out = append(out, fmt.Sprintf("%d of %d sites also have a circuit of another carrier", other, len(a.Members)))
	}
	return out
}

// suggestions are proposals for people, Vietnamese first.
var suggestions = map[CauseKind][]string{
	CauseCarrier: {
		"Gọi trung tâm hỗ trợ của nhà mạng, kèm danh sách các điểm và thời điểm bắt đầu (call the carrier with the list of sites and the start time)",
		"Kiểm tra lưu lượng trên đường dự phòng (watch the load on the backup circuits)",
	},
	CauseHub: {
		"Kiểm tra nguồn điện và đường truyền của trung tâm (check power and uplinks of the hub)",
		"Xác nhận các điểm đã chuyển sang trung tâm còn lại (confirm that the sites moved to the other hub)",
	},
	CauseSite: {
		"Gọi người phụ trách tại điểm để kiểm tra nguồn điện (call the site about its power)",
		"Hỏi nhà mạng về đường truyền của điểm (ask the carrier about the site's circuits)",
	},
	CauseCircuit: {
		"Kiểm tra cáp và thiết bị đầu cuối tại điểm, rồi báo nhà mạng (check cable and modem at the site, then the carrier)",
	},
	CauseDevice: {
		"Kiểm tra kênh quản trị và chứng thư của thiết bị (check the device's management channel and certificate)",
	},
	CauseTunnel: {
		"So sánh cấu hình và khóa ở hai đầu đường hầm (compare configuration and keys at both ends of the tunnel)",
	},
	CauseUnknown: {
		"Thiết bị báo đối tượng không có trong danh mục: kiểm tra sai lệch cấu hình (the object is not in the inventory: look for drift)",
	},
}
