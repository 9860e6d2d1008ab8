// One operator's journey through the console in headless Chromium: sign in, see
// the city well, see a fault appear without a reload, open its incident, look
// around, see it heal. The fault is made inside the simulator; the console and
// the controller are told nothing about it.
//
// Environment: WARDNET_CONSOLE (URL), WARDNET_USER, WARDNET_PASSWORD_FILE,
// WARDNET_CONTROL (the simulator's socket), WARDNET_BIN, WARDNET_SHOTS (directory
// for screenshots), WARDNET_CARRIER (to cut; default vnpt), CHROMIUM.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { browserOptions, Watch } from './watch.mjs';

const env = (name, other) => {
  const value = process.env[name] || other;
  if (!value) throw new Error(`${name} is not set`);
  return value;
};
const base = new URL(env('WARDNET_CONSOLE'));
const user = env('WARDNET_USER');
const password = readFileSync(env('WARDNET_PASSWORD_FILE'), 'utf8').trim();
const control = env('WARDNET_CONTROL');
const wardnet = env('WARDNET_BIN');
const shots = env('WARDNET_SHOTS');
const carrier = env('WARDNET_CARRIER', 'vnpt');
const most = 6; // sites to cut
const least = 3; // that make a carrier the cause
const patience = 60_000;

mkdirSync(shots, { recursive: true });
const run = promisify(execFile);
const fault = async (op, ...args) => JSON.parse((await run(wardnet, ['lab', 'fault', op, '--control', control, '--carrier', carrier, '--json', ...args])).stdout);

const browser = await chromium.launch(browserOptions());
const context = await browser.newContext({
  // The demo's certificate authority is seconds old and known to nobody.
  ignoreHTTPSErrors: ['127.0.0.1', 'localhost', '[::1]'].includes(base.hostname),
  viewport: { width: 1440, height: 900 },
  locale: 'vi-VN',
});
context.setDefaultTimeout(patience);
const page = await context.newPage();
const watch = new Watch(page, base);
const shot = (name) => page.screenshot({ path: `${shots}/${name}.png`, animations: 'disabled' });
const read = (path) => page.evaluate(async (p) => (await fetch('/api/v1' + p)).json(), path);
// calm takes notices out of the picture; they would go by themselves.
async function calm() {
  const shut = page.getByRole('button', { name: 'Đóng thông báo' });
  while (await shut.count()) await shut.first().click({ timeout: 1000 }).catch(() => {});
}
const troubled = () => page.locator('.map a.cell[data-state=down], .map a.cell[data-state=degraded]');

let cut = [];
const steps = {
  async 'sign in'() {
    await page.goto(base.href);
    await page.getByRole('heading', { name: 'Đăng nhập' }).waitFor();
    await shot('login');
    await page.getByLabel('Tên đăng nhập').fill(user);
    await page.getByLabel('Mật khẩu').fill(password);
    await page.getByRole('button', { name: 'Đăng nhập' }).click();
    await page.locator('[data-live=live]').waitFor();
  },

  async 'the healthy city'() {
    await page.locator('.map a.cell[data-state=ok]').first().waitFor();
    await page.waitForFunction(() => !document.querySelector('.map a.cell[data-state=down], .map a.cell[data-state=degraded]'));
    const units = (await read('/units')).filter((u) => u.kind !== 'department');
    assert.equal(await page.locator('.map a.cell').count(), units.length, 'a cell for every unit that is no department');
    assert.equal(await page.locator('.inset a.cell').count() > 0, units.some((u) => u.kind === 'special-zone'), 'the far special zone has an inset');
    await page.getByText('Không có sự cố nào đang mở').waitFor();
    await shot('overview-healthy');
    await page.evaluate(() => (window.sameDocument = true));
  },

  async 'the map by keyboard'() {
    const first = page.locator('.map > svg a.cell[tabindex="0"]');
    await first.focus();
    const before = await first.getAttribute('data-unit');
    for (const key of ['ArrowDown', 'ArrowRight', 'ArrowUp', 'ArrowLeft']) await page.keyboard.press(key);
    await page.keyboard.press('ArrowDown');
    const after = await page.evaluate(() => document.activeElement.dataset.unit);
    assert.ok(after && after !== before, 'an arrow key moves the focus to another unit');
    assert.equal(await page.getByRole('tooltip').count(), 1, 'the focused unit is named');
    await page.evaluate(() => document.activeElement.blur());
  },

  async 'a fault appears by itself'() {
    const sites = (await read('/sites')).filter((s) => s.kind === 'ward-office' && s.devices.length > 0 && s.circuits.some((c) => c.carrier === carrier));
    const made = await fault('cut', '--site', sites.slice(0, most).map((s) => s.id).join(','));
    const dead = new Set(made.circuits);
    cut = sites.filter((s) => s.circuits.some((c) => dead.has(c.id)));
    assert.ok(cut.length >= least, `${carrier} was cut at ${cut.length} sites only`);
    await page.locator('[role=log] .notice').first().waitFor(); // spoken, and gone after a while
    for (const s of cut) await page.locator(`.map a.cell[data-unit="${s.unit}"]:is([data-state=down], [data-state=degraded])`).first().waitFor();
    await page.locator('section[aria-labelledby=open-title] a[data-incident]').first().waitFor();
    await page.waitForFunction((n) => document.querySelectorAll('.map a.cell[data-state=down], .map a.cell[data-state=degraded]').length === n, new Set(cut.map((s) => s.unit)).size);
    await troubled().first().hover({ force: true });
    assert.match(await page.getByRole('tooltip').innerText(), /Suy giảm|Mất kết nối/);
    await shot('overview-fault');
  },

  async 'the incident'() {
    await page.locator('section[aria-labelledby=open-title] a[data-incident]').first().click();
    await page.waitForFunction((n) => document.querySelectorAll('[data-member]').length === n, cut.length);
    const members = await page.locator('[data-member]').evaluateAll((all) => all.map((e) => e.dataset.member).sort());
    assert.deepEqual(members, cut.map((s) => s.id).sort(), 'the members are the cut sites');
    assert.ok((await page.locator('.timeline li').count()) >= 2, 'the timeline tells the first symptom and the opening');
    assert.ok((await page.locator('section[aria-labelledby=evidence] li').count()) >= 2, 'there is evidence');
    await page.locator('section[aria-labelledby=findings] tbody tr').first().waitFor();
    await page.getByRole('button', { name: 'Tiếp nhận' }).click();
    await page.getByRole('dialog').getByLabel('Ghi chú').fill('Đã gọi nhà mạng');
    await page.getByRole('dialog').getByRole('button', { name: 'Tiếp nhận' }).click();
    await page.locator('main header').getByText('Đã tiếp nhận').waitFor();
    await page.locator('.timeline').getByText(user).first().waitFor();
    await calm();
    await shot('incident');
  },

  async 'the other language'() {
    const vi = await page.getByRole('heading', { level: 1 }).innerText();
    await page.getByRole('button', { name: 'English' }).click();
    await page.getByRole('link', { name: 'Incidents' }).first().waitFor();
    const en = await page.getByRole('heading', { level: 1 }).innerText();
    assert.notEqual(en, vi);
    assert.match(en, /sites/);
    assert.equal(await page.evaluate(() => document.documentElement.lang), 'en');
    await shot('incident-english');
    await page.getByRole('button', { name: 'Tiếng Việt' }).click();
    assert.equal(await page.getByRole('heading', { level: 1 }).innerText(), vi);
  },

  async 'devices'() {
    await page.getByRole('link', { name: 'Thiết bị', exact: true }).click();
    await page.locator('tr[data-device]').first().waitFor();
    const all = await page.locator('tr[data-device]').count();
    assert.equal(all, (await read('/devices')).length);
    await shot('devices');
    const plain = cut[0].name.normalize('NFD').replace(/[\u0300-\u036f]/g, '').replaceAll('đ', 'd').replaceAll('Đ', 'D').toLowerCase();
    await page.getByLabel('Tìm kiếm').fill(plain);
    await page.waitForFunction((n) => document.querySelectorAll('tr[data-device]').length < n, all);
    await page.locator('tr[data-device] th a').first().click();
    await page.getByRole('heading', { name: 'Chất lượng đường hầm' }).waitFor();
    await page.locator('figure svg path.line').first().waitFor();
    await shot('device');
  },

  async 'what the device ran'() {
    const archive = page.locator('section[aria-labelledby=archive]');
    const version = archive.locator('tr[data-version]').first();
    await version.getByText('Đầy đủ').waitFor();
    assert.equal(await archive.locator('tr[data-version]').count(), (await read(`/devices/${await page.getByRole('heading', { level: 1 }).innerText()}/configs`)).length);
    const show = version.getByRole('button', { name: /^Xem phiên/ });
    await show.focus();
    await page.keyboard.press('Enter');
    await archive.locator('pre').waitFor();
    assert.match(await archive.locator('pre').innerText(), /"tunnels"/);
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('role')), 'region', 'the focus moves to what was asked for');
    await archive.scrollIntoViewIfNeeded();
    await shot('archive');
  },

  async 'revision and rollout'() {
    await page.getByRole('link', { name: 'Bản cấu hình' }).click();
    await page.locator('tbody th a').first().click();
    await page.getByRole('heading', { name: 'Kế hoạch thay đổi' }).waitFor();
    assert.equal(await page.getByRole('button', { name: 'Phê duyệt' }).count(), 0, 'an author cannot approve');
    await shot('revision');
    await page.getByRole('link', { name: 'Triển khai', exact: true }).click();
    await page.locator('tbody th a').first().click();
    await page.locator('[data-wave]').first().waitFor();
    assert.ok((await page.locator('[data-wave]').count()) >= 3, 'the rollout went in waves');
    await shot('rollout');
  },

  async 'drifts'() {
    await page.getByRole('link', { name: 'Lệch cấu hình', exact: true }).click();
    await page.getByRole('heading', { level: 1, name: 'Lệch cấu hình' }).waitFor();
    const all = await read('/drifts');
    await page.waitForFunction((n) => document.querySelectorAll('tr[data-drift]').length === n, all.length);
    if (!all.length) await page.getByText('Chưa từng có thiết bị nào lệch cấu hình').waitFor();
    await shot('drifts');
  },

  // A router and a profile are declared, and a site is changed and that taken
  // back, in a basket that becomes a revision; its author may not approve it.
  async 'a change basket'() {
    const before = await read('/inventory');
    await page.getByRole('link', { name: 'Giỏ thay đổi' }).click();
    await page.getByText('Chưa có giỏ nào').waitFor();
    await page.getByRole('button', { name: 'Mở giỏ mới' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Nội dung').fill('Bộ định tuyến cho trung tâm 1');
    await dialog.getByRole('button', { name: 'Mở giỏ mới' }).click();
    await page.getByText('Giỏ còn trống').waitFor();
    assert.ok(await page.getByRole('button', { name: 'Lập bản' }).isDisabled(), 'nothing to make a revision of');

    const add = page.getByRole('button', { name: 'Thêm vào giỏ' });
    await page.getByLabel('Sửa mục đang có').check();
    await page.getByLabel('Loại').selectOption('sites');
    await page.getByRole('combobox', { name: 'Mục', exact: true }).selectOption(cut[0].id);
    const json = page.getByLabel('Nội dung (JSON)');
    await json.fill((await json.inputValue()).replace(/"people": \d+/, '"people": 77'));
    await page.getByLabel('Để làm gì').fill('Đếm lại');
    await add.click();
    const edit = page.locator(`[data-edit="sites ${cut[0].id}"]`);
    await edit.getByText(/people: \d+ → 77/).waitFor();

    await page.getByLabel('Thêm mục mới').check();
    await page.getByLabel('Loại').selectOption('routers');
    await json.fill('{"id": "r-core-1", "colour": "blue"}');
    await add.click();
    await page.getByText('không có trường “colour”').waitFor(); // told, and mended by another edit
    await json.fill('{"id": "r-core-1", "serial": "FOC2245X0AB", "site": "hub-1", "platform": "frr", "intended": "planned", "management": "127.0.0.1:9"}');
    await add.click();
    await page.waitForFunction(() => !document.body.innerText.includes('colour'));
    await page.locator('[data-edit="routers r-core-1"]').getByText('+ platform: frr').waitFor();
    await page.getByLabel('Loại').selectOption('profiles');
    await json.fill('{"id": "kiosk-port", "description": "Cổng của ki-ốt", "variables": [{"name": "kiosk_port", "type": "text", "default": "eth7"}], "segments": [{"kind": "kiosk", "port": "${kiosk_port}"}]}');
    await add.click();
    await page.locator('[data-edit="profiles kiosk-port"]').waitFor();
    await page.locator('section', { has: edit }).getByText(`Thay đổi của ${user}`).waitFor();
    await page.evaluate(() => window.scrollTo(0, 0));
    await calm();
    await shot('basket');

    await edit.getByRole('button', { name: 'Lấy ra' }).click();
    await dialog.getByRole('button', { name: 'Lấy ra' }).click();
    await edit.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Lập bản' }).click();
    await dialog.getByText(`Không được phê duyệt bản này: ${user}`).waitFor();
    await dialog.getByRole('button', { name: 'Lập bản' }).click();
    await page.getByText('Bạn là người lập bản này').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Phê duyệt' }).count(), 0);
    const after = await read('/inventory');
    assert.deepEqual(after.sites, before.sites, 'what was taken out is not in the inventory');
    assert.deepEqual(after.routers.map((r) => r.id), ['r-core-1']);
    assert.ok(after.profiles.some((p) => p.id === 'kiosk-port'));
  },

  async 'routers'() {
    await page.getByRole('link', { name: 'Bộ định tuyến' }).click();
    const row = page.locator('tr[data-router=r-core-1]'); // without a reload
    await row.getByText('Dòng lệnh qua SSH').waitFor();
    await row.getByText('Dự kiến').waitFor();
    await calm();
    await shot('routers');
    await row.getByRole('link', { name: 'r-core-1' }).click();
    await page.getByText('Chưa đọc được cấu hình nào').waitFor();
  },

  async 'site profiles'() {
    await page.getByRole('link', { name: 'Hồ sơ điểm mạng' }).click();
    await page.locator('tr[data-profile]').first().waitFor();
    const { profiles, sites } = await read('/inventory');
    assert.equal(await page.locator('tr[data-profile]').count(), profiles.length);
    await page.getByRole('link', { name: 'kiosk-port', exact: true }).click();
    await page.locator('section[aria-labelledby=asked]').getByText('eth7').waitFor();
    await page.locator('section[aria-labelledby=given]').getByText('segments[kiosk].port').waitFor();
    assert.equal(await page.locator('tr[data-site]').count(), sites.filter((x) => x.profile === 'kiosk-port').length);
    await shot('profile');
  },

  async 'decisions'() {
    await page.getByRole('link', { name: 'Quyết định truy cập' }).click();
    await page.locator('tbody tr').first().waitFor();
    await shot('decisions');
    await page.getByLabel('Kết quả').selectOption('false');
    await page.waitForFunction(() => {
      const rows = [...document.querySelectorAll('tbody tr')];
      return rows.length > 0 && rows.every((r) => r.textContent.includes('Từ chối'));
    });
    await page.locator('tbody th a').first().click();
    await page.getByText('Cách khắc phục').waitFor();
    await shot('decision');
  },

  async 'the audit log'() {
    await page.getByRole('link', { name: 'Nhật ký kiểm toán' }).click();
    await page.locator('tbody').getByText('Tiếp nhận sự cố').first().waitFor();
    await shot('audit');
  },

  async 'the city heals'() {
    await page.getByRole('link', { name: 'Tổng quan' }).click();
    await fault('heal');
    await page.waitForFunction(() => !document.querySelector('.map a.cell[data-state=down], .map a.cell[data-state=degraded]'));
    await page.getByText('Không có sự cố nào đang mở').waitFor({ timeout: 2 * patience });
    await shot('overview-healed');
    assert.equal(await page.evaluate(() => window.sameDocument), true, 'the page was never loaded again');
  },

  async 'sign out'() {
    await page.getByRole('button', { name: 'Đăng xuất' }).click();
    await page.getByRole('heading', { name: 'Đăng nhập' }).waitFor();
    watch.check();
  },
};

let failed = 0;
for (const [name, step] of Object.entries(steps)) {
  const start = Date.now();
  try {
    await step();
    console.log(`ok      ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  } catch (e) {
    failed = 1;
    console.log(`FAILED  ${name}: ${e.message}`);
    await shot('failed').catch(() => {});
    for (const line of watch.lines()) console.log(`        ${line}`);
    break;
  }
}
await browser.close();
if (cut.length && failed) await fault('heal').catch(() => {});
console.log(`${1 - failed} passed, ${failed} failed`);
process.exit(failed);
