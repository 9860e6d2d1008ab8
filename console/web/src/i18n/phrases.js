import { i18n, known } from './index.svelte.js';

// The server explains itself in English sentences with numbers in them. These
// are their Vietnamese forms; a sentence that is not here is shown as it came.
const kinds = 'circuit-down|tunnel-down|bgp-down|bfd-down|device-down|tunnel-loss|tunnel-latency|latency-shift|traffic-shift';
const counted = new RegExp(`^(${kinds}):`);
const causes = { carrier: 'nhà mạng', hub: 'trung tâm', site: 'điểm', circuit: 'đường truyền', device: 'thiết bị', tunnel: 'đường hầm', unknown: 'chưa rõ' };
const cause = (c) => causes[c] ?? c;
const metrics = {
  circuit_up: 'đường truyền',
  tunnel_up: 'đường hầm',
  bgp_up: 'phiên BGP',
  bfd_up: 'phiên BFD',
  device_up: 'liên lạc với thiết bị',
  tunnel_loss_ratio: 'tỷ lệ mất gói',
  tunnel_latency_ms: 'độ trễ (ms)',
};
const metric = (m) => metrics[m] ?? m;
const clockOf = (at) =>
  new Intl.DateTimeFormat('vi-VN', { timeZone: 'Asia/Ho_Chi_Minh', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }).format(new Date(at));
const momentOf = (at) =>
  new Intl.DateTimeFormat('vi-VN', { timeZone: 'Asia/Ho_Chi_Minh', day: '2-digit', month: '2-digit', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).format(new Date(at));

const terms = {
  subject: 'chủ thể',
  device: 'thiết bị',
  application: 'ứng dụng',
  segment: 'phân vùng',
  entitlement: 'quyền truy cập',
  posture: 'trạng thái an toàn',
  valid: 'còn hiệu lực',
  'a known person or service': 'người hoặc dịch vụ có trong danh bạ',
  'a managed device': 'thiết bị được quản lý',
  'an application of the inventory': 'ứng dụng có trong danh mục',
  'an action of the access rule': 'thao tác có trong quy tắc truy cập',
};
const term = (w) => terms[w] ?? w.replace(/^at most (\d+) s old$/, 'không cũ hơn $1 giây');

const sentences = [
  [/^segment (\S+) must not open (.*) to (.*)$/, (s, x, to) => `phân vùng ${s} không được mở ${x} đến ${to}`],
  [/^nothing outside of the sites may open (.*) to (.*)$/, (x, to) => `bên ngoài các điểm không được mở ${x} đến ${to}`],
  [/^a forged source in segment (\S+) must not pass$/, (s) => `nguồn giả trong phân vùng ${s} không được đi qua`],
  [/^permit (\S+): segment (\S+) must be able to open (.*) to (.*)$/, (p, s, x, to) => `quyền ${p}: phân vùng ${s} phải mở được ${x} đến ${to}`],
  [/^permit (\S+): (.*) must come back to (.*)$/, (p, x, to) => `quyền ${p}: ${x} phải về được ${to}`],
  [/^permit (\S+): site (\S+) must reach (.*) when (.*)$/, (p, s, to, f) => `quyền ${p}: điểm ${s} phải đến được ${to} khi ${phrase(f)}`],
  [/^hub (\S+) is down$/, (h) => `trung tâm ${h} ngừng`],
  [/^district (.*) is without power$/, (d) => `quận ${d} mất điện`],
  [/^carrier (\S+) is down$/, (c) => `nhà mạng ${c} ngừng`],
  [/^every (\S+) circuit is down$/, (k) => `mọi đường ${k} ngừng`],
  [/^everything$/, () => 'nơi nào khác'],
  [/^some of the other sites$/, () => 'một số điểm khác'],
  [/^site (\S+)$/, (s) => `điểm ${s}`],
  [/^segment (\S+), application (.*)$/, (s, a) => `phân vùng ${known('segment', s)}, ứng dụng ${a}`],
  [/^segment (\S+)$/, (s) => `phân vùng ${known('segment', s)}`],
  [/^application (.*)$/, (a) => `ứng dụng ${a}`],
  [/^all is well$/, () => 'mạng bình thường'],
  [/^a hub fails; (\d+) sites depend on it$/, (n) => `một trung tâm mất kết nối, ${n} điểm phụ thuộc vào nó`],
  [/^(\d+) of (\d+) sites have no way out left$/, (n, m) => `${n} trên ${m} điểm không còn đường ra nào`],
  [/^(\d+) sites are affected$/, (n) => `${n} điểm bị ảnh hưởng`],
  [/^service is worse, nothing is down$/, () => 'chất lượng giảm, chưa có gì mất kết nối'],
  [/^(\d+) sites run without a spare path$/, (n) => `${n} điểm đang chạy không có đường dự phòng`],
  [/^the site runs without a spare path$/, () => 'điểm đang chạy không có đường dự phòng'],
  [/^one session of several is affected$/, () => 'một trong nhiều phiên bị ảnh hưởng'],
  [new RegExp(`^(${kinds}): (\\d+) findings$`), (k, n) => `${known('kind', k)}: ${n} bất thường`],
  [/^(\d+) devices report it$/, (n) => `${n} thiết bị cùng báo`],
  [/^(\d+) sites went dark: (.*)$/, (n, names) => `${n} điểm mất liên lạc hoàn toàn: ${names}`],
  [/^(\d+) of (\d+) sites also have a circuit of another carrier$/, (n, m) => `${n} trên ${m} điểm còn đường truyền của nhà mạng khác`],
  [/^all symptoms cleared$/, () => 'mọi triệu chứng đã hết'],
  [/^all symptoms clear for (.*)$/, (d) => `không còn triệu chứng nào trong ${d}`],
  [/^to (\S+)$/, (who) => `cho ${who}`],
  [/^the cause came back (\S+) after the incident was resolved$/, (d) => `nguyên nhân trở lại ${d} sau khi khắc phục`],
  [/^cause (\S+) (\S+) explains (\d+) findings$/, (k, id, n) => `nguyên nhân ${cause(k)} ${id} giải thích ${n} bất thường`],
  [/^cause (\S+) (\S+), not (\S+) (\S+): it explains more$/, (k, id, k2, id2) => `nguyên nhân là ${cause(k)} ${id}, không phải ${cause(k2)} ${id2}, vì giải thích được nhiều hơn`],
  [/^the same cause as (\S+)$/, (id) => `cùng nguyên nhân với ${id}`],
  [/^took over (\S+)$/, (id) => `gộp từ ${id}`],
  [/^(\d+) sites affected: (.*)$/, (n, names) => `${n} điểm bị ảnh hưởng: ${names}`],
  [/^(?:first symptom: )?(\w+) is ([01]) since (\S+?), longer than the hold of (\S+)$/, (m, v, at, d) => `${metric(m)} ${v === '0' ? 'mất' : 'trở lại'} từ ${clockOf(at)}, quá thời gian chờ ${d}`],
  [/^(?:first symptom: )?(\w+) is over (\S+) for (\S+), now (\S+)$/, (m, l, d, v) => `${metric(m)} vượt ${l} trong ${d}, hiện là ${v}`],
  [/^(\w+) is under (\S+) for (\S+)$/, (m, l, d) => `${metric(m)} dưới ${l} trong ${d}`],
  [/^(\w+) is no longer reported by the device$/, (m) => `thiết bị không còn báo ${metric(m)}`],
  [/^(?:first symptom: )?(\w+) is (\S+) where its past leads to expect (\S+): (\S+) robust deviations, limit (\S+)$/, (m, v, e, d, l) => `${metric(m)} là ${v}, theo quá khứ phải là ${e}: lệch ${d} lần, ngưỡng ${l}`],
  [/^(\w+) stayed at the new level for (\S+), which is now the normal one$/, (m, d) => `${metric(m)} giữ mức mới trong ${d}, nay coi là bình thường`],
  [/^(\S+): (\S+) is "(.*)", wanted (.*)$/, (rule, attribute, value, want) => `${term(rule)}: ${attribute} là “${value}”, cần ${term(want)}`],
  [/^(\d+) added, (\d+) changed, (\d+) removed(.*)$/, (a, c, r, rest) => `thêm ${a}, đổi ${c}, bỏ ${r}${rest}`],
  [/^first configuration$/, () => 'cấu hình lần đầu'],
  [/^additions before the wards, removals after them$/, () => 'phần thêm làm trước các phường, phần bỏ làm sau'],
  [/^only takes away: after the wards$/, () => 'chỉ bỏ bớt: làm sau các phường'],
  [/^the device leaves the intent; its hubs drop its tunnels$/, () => 'thiết bị rời danh mục, các trung tâm bỏ đường hầm của nó'],
  [/^start rollout: held: revision (\d+) is not approved; another person than (\S+) must approve it$/, (n, who) => `bản ${n} chưa được phê duyệt; một người khác ${who} phải phê duyệt`],
  [/^(\d+) devices are offline; they take revision (\d+) when they return$/, (n, r) => `${n} thiết bị đang mất liên lạc, sẽ nhận bản ${r} khi kết nối lại`],
  [/^read back from the device$/, () => 'đọc lại cấu hình từ thiết bị'],
  [/^noticed on the device$/, () => 'thiết bị tự phát hiện'],
  [/^the device keeps what was signed$/, () => 'thiết bị giữ đúng văn bản đã ký'],
  [/^the device runs signed documents only, and this is not the one assigned to it$/, () => 'thiết bị chỉ chạy văn bản đã ký, và đây không phải văn bản đã giao'],
  [/^the waiver ended; before: (.*)$/, (why) => `đã hết hạn để yên; trước đó: ${why}`],
  [/^(?:\S+: [\w-]+: )?held: drift \S+: (.*)$/, (what) => `giữ nguyên vì lệch cấu hình: ${what.replace(/ \(and (\d+) more\)$/, ' (và $1 dòng nữa)')}`],
  [/^(?:.*: )?device unreachable: (?:router )?(.*)$/, (what) => `không kết nối được: ${what}`],
  [/^drift \S+: conflict: it is (\S+)$/, (state) => `lệch này đã xong (${known('drift', state)})`],
  [/^drift "(.*)": not found.*$/, () => 'không có lần lệch này'],
  [/^waive drift \S+: invalid: the end (\S+) is not within the next (\d+) days$/, (end, n) => `ngày ${end} không nằm trong ${n} ngày tới`],
  [/^adopt drift \S+: conflict: (\S+) runs .*look at it again$/, (d) => `${d} đã chạy cấu hình khác trong lúc này; hãy xem lại`],
  [/^adopt drift \S+: .*device unreachable.*$/, () => 'không đọc được thiết bị lúc này; hãy thử lại khi thiết bị kết nối'],
  [/^add to basket \S+: conflict: edited in it already: (.*); talk to them, or take their edit out first$/, (what) => `đã có người sửa trong giỏ: ${what.replaceAll(' by ', ' bởi ')}; hãy trao đổi với họ, hoặc lấy thay đổi của họ ra trước`],
  [/^add to basket \S+: invalid: nothing differs from the inventory in force$/, () => 'chưa có gì khác với danh mục đang hiệu lực'],
  [/^basket \S+: conflict: it has version (\d+) by now, not (\d+)$/, () => 'giỏ đã được người khác sửa trong lúc này; hãy xem lại rồi làm tiếp'],
  [/^(?:\w+ )+basket \S+: conflict: it is (\S+)$/, (state) => `giỏ không còn mở (${known('basket', state)})`],
  [/^submit basket \S+: invalid: it is empty$/, () => 'giỏ còn trống'],
  [/^(?:apply basket \S+: )?(\S+) (\S+): conflict: somebody else has changed it since; look at it, and edit it anew$/, (noun, id) => `${known('noun', noun)} ${id}: đã bị sửa ngoài giỏ từ khi được thêm; hãy xem lại và sửa lại từ đầu`],
  [/^(?:apply basket \S+: )?(\S+) (\S+): invalid: json: unknown field "(.*)"$/, (noun, id, field) => `${known('noun', noun)} ${id}: không có trường “${field}”`],
  [/^(?:invalid: )?(\S+) prepared a part of revision (\d+).*$/, (who, n) => `${who} đã góp thay đổi vào bản ${n} nên không được phê duyệt`],
  [/^the device's answer was cut: do not restore from it$/, () => 'câu trả lời của thiết bị bị cắt: không dùng để khôi phục'],
  [/^shrank from (\d+) to (\d+) bytes$/, (a, b) => `co từ ${a} còn ${b} byte`],
  [/^waits for the maintenance window, which opens at (\S+?);.*$/, (at) => `chờ khung bảo trì, mở lúc ${momentOf(at)}`],
  [/^will (reset|drop) BGP to (\S+) over (?:uplink )?(\S+)$/, (what, peer, over) => `sẽ ${what === 'drop' ? 'bỏ' : 'khởi động lại'} phiên BGP tới ${peer} qua ${over}`],
  [/^will reset every BGP session of the device$/, () => 'sẽ khởi động lại mọi phiên BGP của thiết bị'],
  [/^will interrupt circuit (\S+) and its tunnels$/, (c) => `sẽ ngắt đường truyền ${c} và các đường hầm trên đó`],
  [/^will take down segment (\S+)$/, (s) => `sẽ ngắt phân vùng ${known('segment', s)}`],
  [/^will renumber segment (\S+): its hosts need new addresses$/, (s) => `sẽ đổi địa chỉ phân vùng ${known('segment', s)}: máy trong đó cần địa chỉ mới`],
  [/^resumed by (\S+)$/, (who) => `${who} cho chạy tiếp`],
  [/^paused by (\S+)$/, (who) => `${who} tạm dừng`],
  [/^aborted by (\S+)$/, (who) => `${who} hủy`],
  [/^sign in, or send a valid API token$/, () => 'hãy đăng nhập, hoặc gửi mã truy cập hợp lệ'],
  [/^somebody else was first: reload.*$/, () => 'có người thay đổi trước: tải lại, xem khác biệt rồi thử lại'],
  [/^nothing was changed; correct what is listed and try again$/, () => 'chưa có gì thay đổi; sửa những mục đã nêu rồi thử lại'],
  [/^this waits for a person:.*$/, () => 'việc này chờ người có thẩm quyền: hãy xin phê duyệt hoặc khung giờ còn thiếu'],
  [/^one of these roles is needed: (.*); ask an administrator$/, (roles) => `cần một trong các vai trò: ${roles}; liên hệ quản trị viên`],
  [/^wait for the time given in Retry-After$/, () => 'chờ một lát rồi thử lại'],
  [/^try again later$/, () => 'hãy thử lại sau'],
];

// Remedies of a denial; several may stand in one text.
const remedies = [
  ['ask the security team to add this person to the directory', 'đề nghị bộ phận an toàn thông tin bổ sung người này vào danh bạ'],
  ['the account is disabled; ask the security team to enable it', 'tài khoản đang bị khóa; đề nghị bộ phận an toàn thông tin mở lại'],
  ['the device is not in the inventory; have it declared and enrolled', 'thiết bị chưa có trong danh mục; cần khai báo và đăng ký thiết bị'],
  ['the device has no valid certificate; enrol or renew it', 'thiết bị không có chứng thư hợp lệ; cần đăng ký hoặc gia hạn'],
  ['the device is in quarantine; see its page for the reason', 'thiết bị đang bị cách ly; xem lý do tại trang thiết bị'],
  ['the application is not in the inventory; check its id', 'ứng dụng chưa có trong danh mục; kiểm tra lại mã ứng dụng'],
  ["ask the owner of the application to entitle one of the person's groups", 'đề nghị chủ quản ứng dụng cấp quyền cho nhóm của người dùng'],
  ["the person's groups may not do this action on the application", 'nhóm của người dùng không được phép thực hiện thao tác này'],
  ['connect from a segment that the intent permits for this application', 'kết nối từ phân vùng mạng được phép truy cập ứng dụng này'],
  ["the device's posture is too old; bring it back in contact with the controller", 'trạng thái an toàn của thiết bị đã quá hạn; cần kết nối lại với trung tâm'],
  ['the device does not meet its baseline; see its page for what differs', 'thiết bị chưa đạt cấu hình chuẩn; xem điểm khác biệt tại trang thiết bị'],
];

// phrase gives a sentence of the server in the language in use.
export function phrase(text) {
  if (!text) return text;
  if (i18n.lang !== 'vi') return text.replace(counted, (all, k) => `${known('kind', k)}:`);
  for (const [pattern, say] of sentences) {
    const m = pattern.exec(text);
    if (m) return say(...m.slice(1));
  }
  return remedies.reduce((s, [en, vi]) => s.replaceAll(en, vi), text);
}

// suggestion chooses the half of "tiếng Việt (English)".
export function suggestion(text, lang) {
  const m = /^(.*) \((.*)\)$/.exec(text);
  if (!m) return text;
  const half = lang === 'vi' ? m[1] : m[2];
  return half[0].toUpperCase() + half.slice(1);
}
