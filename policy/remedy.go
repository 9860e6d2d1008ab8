package policy

// remedies say what would turn a denial into an allow, in English and Vietnamese.
var remedies = map[Code][2]string{
	CodeSubjectUnknown:    {"ask the security team to add this person to the directory", "đề nghị bộ phận an toàn thông tin bổ sung người này vào danh bạ"},
	CodeSubjectInactive:   {"the account is disabled; ask the security team to enable it", "tài khoản đang bị khóa; đề nghị bộ phận an toàn thông tin mở lại"},
	CodeDeviceUnknown:     {"the device is not in the inventory; have it declared and enrolled", "thiết bị chưa có trong danh mục; cần khai báo và đăng ký thiết bị"},
	CodeCertificate:       {"the device has no valid certificate; enrol or renew it", "thiết bị không có chứng thư hợp lệ; cần đăng ký hoặc gia hạn"},
	CodeQuarantined:       {"the device is in quarantine; see its page for the reason", "thiết bị đang bị cách ly; xem lý do tại trang thiết bị"},
	CodeApplication:       {"the application is not in the inventory; check its id", "ứng dụng chưa có trong danh mục; kiểm tra lại mã ứng dụng"},
	CodeGroup:             {"ask the owner of the application to entitle one of the person's groups", "đề nghị chủ quản ứng dụng cấp quyền cho nhóm của người dùng"},
	CodeAction:            {"the person's groups may not do this action on the application", "nhóm của người dùng không được phép thực hiện thao tác này"},
	CodeSegment:           {"connect from a segment that the intent permits for this application", "kết nối từ phân vùng mạng được phép truy cập ứng dụng này"},
	CodePostureStale:      {"the device's posture is too old; bring it back in contact with the controller", "trạng thái an toàn của thiết bị đã quá hạn; cần kết nối lại với trung tâm"},
	CodePostureFailed:     {"the device does not meet its baseline; see its page for what differs", "thiết bị chưa đạt cấu hình chuẩn; xem điểm khác biệt tại trang thiết bị"},
	CodeUndefined:         {"the policy gave no reason; report this decision id to the security team", "chính sách không nêu lý do; báo mã quyết định cho bộ phận an toàn thông tin"},
	CodeEvaluationError:   {"the policy failed to evaluate; report this decision id to the security team", "chính sách gặp lỗi khi đánh giá; báo mã quyết định cho bộ phận an toàn thông tin"},
	CodeDeadline:          {"the decision took too long; try again, then report this decision id", "quyết định mất quá nhiều thời gian; thử lại rồi báo mã quyết định"},
	CodeLogUnavailable:    {"the decision log is not writable; the NOC must free or repair its storage", "không ghi được nhật ký quyết định; NOC cần kiểm tra nơi lưu trữ"},
	CodeFactsNotAvailable: {"the controller is still loading its facts; try again in a moment", "trung tâm đang nạp dữ liệu; vui lòng thử lại sau giây lát"},
}

func remedy(c Code) (en, vi string) { return remedies[c][0], remedies[c][1] }
