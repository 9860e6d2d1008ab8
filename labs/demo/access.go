package demo

import (
	"math/rand/v2"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// people are the demo's subjects; invented, none is a real person.
var people = []client.Subject{
	{ID: "lan.nguyen", Name: "Nguyễn Thị Lan", Groups: []string{"mot-cua"}, Active: true},
	{ID: "minh.tran", Name: "Trần Văn Minh", Groups: []string{"ho-tich"}, Active: true},
	{ID: "hoa.le", Name: "Lê Thị Hòa", Groups: []string{"lanh-dao"}, Active: true},
	{ID: "dung.pham", Name: "Phạm Tiến Dũng", Groups: []string{"quan-tri"}, Active: true},
	{ID: "nghi.viec", Name: "Đã nghỉ việc", Groups: []string{"ho-tich"}, Active: false},
	{ID: "cong.dan", Name: "Công dân", Groups: []string{"cong-dan"}, Active: true},
	{ID: "may.chu.ho.so", Name: "Máy chủ đồng bộ hồ sơ", Groups: []string{"dich-vu-may-chu"}, Active: true},
	{ID: "ki.ot", Name: "Ki-ốt tra cứu", Groups: []string{"thiet-bi-kiosk"}, Active: true},
}

// access is one request with the answer that the written policy gives; the
// demo holds the controller to it.
type access struct {
	Subject     string
	Segment     inventory.SegmentKind
	Application inventory.ApplicationID
	Action      string
	Device      inventory.DeviceID
	Allow       bool
	Code        string
}

// cases are the kinds of request; each is asked from many sites.
var cases = []access{
	{"lan.nguyen", inventory.Staff, "dich-vu-cong", "connect", "", true, "allowed"},
	{"minh.tran", inventory.Staff, "ho-tich", "connect", "", true, "allowed"},
	{"hoa.le", inventory.Staff, "van-ban", "connect", "", true, "allowed"},
	{"dung.pham", inventory.Mgmt, "quan-tri", "admin", "", true, "allowed"},
	{"cong.dan", inventory.Public, "wifi-cong-dan", "connect", "", true, "allowed"},
	{"ki.ot", inventory.Kiosk, "lay-so", "connect", "", true, "allowed"},
	{"may.chu.ho.so", inventory.Servers, "kho-ho-so", "connect", "", true, "allowed"},
	{"lan.nguyen", inventory.Staff, "ho-tich", "connect", "", false, "group_not_entitled"},
	{"cong.dan", inventory.Public, "ho-tich", "connect", "", false, "segment_not_permitted"},
	{"minh.tran", inventory.Public, "ho-tich", "connect", "", false, "segment_not_permitted"},
	{"minh.tran", inventory.Staff, "kho-ho-so", "connect", "", false, "segment_not_permitted"},
	{"nghi.viec", inventory.Staff, "ho-tich", "connect", "", false, "subject_inactive"},
	{"khong.ai", inventory.Staff, "dich-vu-cong", "connect", "", false, "subject_unknown"},
	{"dung.pham", inventory.Mgmt, "quan-tri", "delete", "", false, "action_not_permitted"},
	{"lan.nguyen", inventory.Staff, "dich-vu-cong", "connect", "e-khong-co", false, "device_unknown"},
	{"lan.nguyen", inventory.Staff, "khong-co", "connect", "", false, "application_unknown"},
}

// requests draws n of the cases, each from a random device of the city.
func requests(devices []inventory.DeviceID, n int, rng *rand.Rand) []access {
	out := make([]access, n)
	for i := range out {
		out[i] = cases[i%len(cases)]
		if out[i].Device == "" {
			out[i].Device = devices[rng.IntN(len(devices))]
		}
	}
	return out
}
