import assert from 'node:assert/strict';
import test from 'node:test';
import { area, cells, clip, split, towards } from '../src/lib/geometry.js';
import { fold, matcher } from '../src/lib/fold.js';
import { eventReader } from '../src/lib/sse.js';
import { unitStates, worst } from '../src/lib/states.js';

// random is a small seeded generator (mulberry32), so that a failure repeats.
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

test('a search needs no tone marks', () => {
  assert.equal(fold('Đặc khu Côn Đảo'), 'dac khu con dao');
  assert.equal(fold('Phường Thủ Dầu Một'.normalize('NFD')), 'phuong thu dau mot');
  assert.ok(matcher('dao CON')(fold('Đặc khu Côn Đảo')));
  assert.ok(!matcher('con dao 2')(fold('Đặc khu Côn Đảo')));
});

test('events survive any cut of the stream', () => {
  const stream = ': hi\nretry: 2000\n\nevent: device\ndata: {"id":\ndata: "d-1"}\n\n: heartbeat\n\nevent: summary\r\ndata: {}\r\n\r\ndata: x\n\n';
  const want = [['device', '{"id":\n"d-1"}'], ['summary', '{}'], ['message', 'x']];
  for (let size = 1; size <= stream.length; size++) {
    const got = [];
    const read = eventReader((type, data) => got.push([type, data]));
    for (let i = 0; i < stream.length; i += size) read(stream.slice(i, i + size));
    assert.deepEqual(got, want, `pieces of ${size}`);
  }
});

test('clipping never grows a polygon and keeps what lies inside', () => {
  const square = [[0, 0], [10, 0], [10, 10], [0, 10]];
  assert.equal(Math.abs(area(clip([[2, 2], [4, 2], [4, 4], [2, 4]], square))), 4);
  assert.equal(Math.abs(area(clip([[5, 5], [15, 5], [15, 15], [5, 15]], [...square].reverse()))), 25);
  assert.deepEqual(clip([[20, 20], [30, 20], [30, 30]], square), []);
});

test('every place lies in its own cell and in no other', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const next = random(seed);
    const places = Array.from({ length: 3 + Math.floor(next() * 60) }, (_, i) => ({ id: i, x: next() * 120, y: next() * 90 }));
    const drawn = cells(places);
    for (const p of places) {
      const holders = drawn.filter((c) => c.rings.some((r) => inside(r, p))).map((c) => c.id);
      assert.deepEqual(holders, [p.id], `seed ${seed}`);
    }
  }
});

function inside(ring, { x, y }) {
  let within = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
    const [a, b] = [ring[i], ring[j]];
    if (a[1] > y !== b[1] > y && x < ((b[0] - a[0]) * (y - a[1])) / (b[1] - a[1]) + a[0]) within = !within;
  }
  return within;
}

test('a far island is parted from the city', () => {
  const city = Array.from({ length: 60 }, (_, i) => ({ id: i, x: (i % 10) * 4, y: Math.floor(i / 10) * 4 }));
  const island = { id: 'far', x: 20, y: 220 };
  const { near, far } = split([...city, island]);
  assert.deepEqual(far, [island]);
  assert.equal(near.length, city.length);
  assert.equal(towards(city, city[0], [1, 0]).id, 1);
  assert.equal(towards(city, city[0], [-1, 0]), undefined);
});

test('a unit shows the worst of its sites', () => {
  assert.equal(worst([]), 'planned');
  assert.equal(worst(['planned', 'ok']), 'ok');
  assert.equal(worst(['ok', 'down', 'quarantined']), 'down');
  const devices = new Map([['a', { site: 's1', state: 'ok' }], ['b', { site: 's2', state: 'degraded' }]]);
  const units = [{ id: 'u', sites: ['s1', 's2'], state: 'ok' }];
  assert.equal(unitStates(units, devices).get('u'), 'degraded');
  assert.equal(unitStates(units, new Map()).get('u'), 'ok');
});
