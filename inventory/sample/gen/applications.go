package main

import (
	"net/netip"

	"github.com/wardnet/wardnet/inventory"
)

// Service classes: loss ratio, one-way latency and jitter in milliseconds.
var (
	business    = inventory.ServiceClass{Name: "nghiệp vụ", LossRatio: 0.01, LatencyMS: 100, JitterMS: 50}
	interactive = inventory.ServiceClass{Name: "thoại và hội nghị", LossRatio: 0.01, LatencyMS: 150, JitterMS: 30} // ITU-T G.114
	streaming   = inventory.ServiceClass{Name: "hình ảnh", LossRatio: 0.02, LatencyMS: 400, JitterMS: 100}
	background  = inventory.ServiceClass{Name: "nền", LossRatio: 0.05, LatencyMS: 1000, JitterMS: 500}
)

// at gives the two addresses of a server with one number in the servers
// segment of a hub (the sixth /23 and the sixth /64).
func at(hub int, n string) []netip.Prefix {
	if hub == 1 {
		return []netip.Prefix{netip.MustParsePrefix("10.64.10." + n + "/32"), netip.MustParsePrefix("fd5a:7e3c:91b4:5::" + n + "/128")}
	}
	return []netip.Prefix{netip.MustParsePrefix("10.64.26." + n + "/32"), netip.MustParsePrefix("fd5a:7e3c:91b4:15::" + n + "/128")}
}

func tcp(from, to uint16) inventory.PortRange {
	return inventory.PortRange{Proto: inventory.TCP, From: from, To: to}
}

func udp(from, to uint16) inventory.PortRange {
	return inventory.PortRange{Proto: inventory.UDP, From: from, To: to}
}

func applications() []inventory.Application {
	dns := []inventory.PortRange{tcp(53, 53), udp(53, 53), udp(123, 123)}
	return []inventory.Application{
		{ID: "dich-vu-cong", Name: "Cổng dịch vụ công và một cửa điện tử", Site: "hub-1", Prefixes: at(1, "10"), Ports: []inventory.PortRange{tcp(443, 443)}, Sensitivity: inventory.High, Class: business, FailMode: inventory.FailStatic},
		{ID: "ho-tich", Name: "Quản lý hộ tịch và chứng thực", Site: "hub-1", Prefixes: at(1, "20"), Ports: []inventory.PortRange{tcp(443, 443)}, Sensitivity: inventory.Critical, Class: business, FailMode: inventory.FailClosed},
		{ID: "van-ban", Name: "Quản lý văn bản và điều hành", Site: "hub-2", Prefixes: at(2, "10"), Ports: []inventory.PortRange{tcp(443, 443)}, Sensitivity: inventory.High, Class: business, FailMode: inventory.FailStatic},
		{ID: "kho-ho-so", Name: "Kho hồ sơ số hóa (cơ sở dữ liệu)", Site: "hub-1", Prefixes: at(1, "30"), Ports: []inventory.PortRange{tcp(1433, 1433)}, Sensitivity: inventory.Critical, Class: business, FailMode: inventory.FailClosed},
		{ID: "lay-so", Name: "Lấy số thứ tự và đánh giá hài lòng", Site: "hub-2", Prefixes: at(2, "20"), Ports: []inventory.PortRange{tcp(443, 443)}, Sensitivity: inventory.Medium, Class: business, FailMode: inventory.FailStatic},
		{ID: "wifi-cong-dan", Name: "Cổng Wi-Fi công dân", Site: "hub-2", Prefixes: at(2, "30"), Ports: []inventory.PortRange{tcp(443, 443)}, Sensitivity: inventory.Low, Class: background, FailMode: inventory.FailStatic},
		{ID: "thoai", Name: "Tổng đài thoại IP (SIP, RTP)", Site: "hub-1", Prefixes: at(1, "40"), Ports: []inventory.PortRange{tcp(5061, 5061), udp(5060, 5060), udp(16384, 32767)}, Sensitivity: inventory.Medium, Class: interactive, FailMode: inventory.FailStatic},
		{ID: "hoi-nghi", Name: "Hội nghị truyền hình", Site: "hub-2", Prefixes: at(2, "40"), Ports: []inventory.PortRange{tcp(443, 443), udp(3478, 3478), udp(50000, 59999)}, Sensitivity: inventory.Medium, Class: interactive, FailMode: inventory.FailStatic},
		{ID: "camera", Name: "Giám sát camera", Site: "hub-2", Prefixes: at(2, "50"), Ports: []inventory.PortRange{tcp(554, 554), udp(6970, 6999)}, Sensitivity: inventory.High, Class: streaming, FailMode: inventory.FailClosed},
		{ID: "quan-tri", Name: "Quản trị và giám sát thiết bị", Site: "hub-1", Prefixes: at(1, "50"), Ports: []inventory.PortRange{tcp(443, 443), udp(162, 162), udp(514, 514)}, Sensitivity: inventory.Critical, Class: background, FailMode: inventory.FailClosed},
		{ID: "dns-1", Name: "Phân giải tên và đồng bộ giờ 1", Site: "hub-1", Prefixes: at(1, "53"), Ports: dns, Sensitivity: inventory.Medium, Class: business, FailMode: inventory.FailStatic},
		{ID: "dns-2", Name: "Phân giải tên và đồng bộ giờ 2", Site: "hub-2", Prefixes: at(2, "53"), Ports: dns, Sensitivity: inventory.Medium, Class: business, FailMode: inventory.FailStatic},
	}
}

// permits is the whole of what may pass. The public segment reaches its own
// portal and names, and nothing else.
func permits() []inventory.Permit {
	type kinds = []inventory.SegmentKind
	const (
		staff, public, kiosk, voice = inventory.Staff, inventory.Public, inventory.Kiosk, inventory.Voice
		iot, servers, mgmt          = inventory.IoT, inventory.Servers, inventory.Mgmt
	)
	return []inventory.Permit{
		{ID: "p-dich-vu-cong", From: kinds{staff, kiosk}, ToApp: "dich-vu-cong", Reason: "Cán bộ một cửa và ki-ốt nộp, tra cứu hồ sơ"},
		{ID: "p-ho-tich", From: kinds{staff}, ToApp: "ho-tich", Reason: "Cán bộ tư pháp – hộ tịch"},
		{ID: "p-van-ban", From: kinds{staff}, ToApp: "van-ban", Reason: "Cán bộ xử lý văn bản"},
		{ID: "p-kho-ho-so", From: kinds{servers}, ToApp: "kho-ho-so", Reason: "Máy chủ tại chỗ đồng bộ hồ sơ; người dùng không vào thẳng cơ sở dữ liệu"},
		{ID: "p-lay-so", From: kinds{kiosk, staff}, ToApp: "lay-so", Reason: "Máy lấy số và quầy gọi số"},
		{ID: "p-wifi-cong-dan", From: kinds{public}, ToApp: "wifi-cong-dan", Reason: "Công dân đăng nhập Wi-Fi"},
		{ID: "p-thoai", From: kinds{voice}, ToApp: "thoai", Reason: "Điện thoại IP đăng ký tổng đài"},
		{ID: "p-thoai-truc-tiep", From: kinds{voice}, ToSeg: voice, Ports: []inventory.PortRange{udp(16384, 32767)}, Reason: "Luồng thoại đi thẳng giữa hai nơi"},
		{ID: "p-hoi-nghi", From: kinds{staff, voice}, ToApp: "hoi-nghi", Reason: "Họp trực tuyến"},
		{ID: "p-camera", From: kinds{iot}, ToApp: "camera", Reason: "Camera gửi hình về trung tâm"},
		{ID: "p-quan-tri", From: kinds{mgmt}, ToApp: "quan-tri", Reason: "Thiết bị gửi nhật ký và số đo"},
		{ID: "p-dns-1", From: inventory.SegmentKinds, ToApp: "dns-1", Reason: "Mọi phân vùng cần phân giải tên và giờ"},
		{ID: "p-dns-2", From: inventory.SegmentKinds, ToApp: "dns-2", Reason: "Mọi phân vùng cần phân giải tên và giờ"},
	}
}
