import assert from 'node:assert/strict';
import test from 'node:test';
import { dayAfter, endOf } from '../src/lib/days.js';
import { byPerson, draft, editLines, operation } from '../src/lib/edits.js';
import { chain, figures, variables } from '../src/lib/profiles.js';
import { byDecision, decides } from '../src/lib/states.js';
import { hunks, oddity } from '../src/lib/versions.js';

test('what waits for a person comes first', () => {
  const drift = (id, state, found) => ({ id, state, found });
  const all = [
    drift('a', 'returned', '2026-11-27T09:00:00Z'), drift('b', 'waived', '2026-11-27T08:00:00Z'), drift('c', 'open', '2026-11-01T08:00:00Z'),
    drift('d', 'open', '2026-11-02T08:00:00Z'), drift('e', 'gone', '2026-11-27T10:00:00Z'), drift('f', 'adopting', '2026-10-01T00:00:00Z'), drift('g', 'returning', '2026-10-01T00:00:00Z'),
  ];
  assert.equal([...all].sort(byDecision).map((d) => d.id).join(''), 'dcgfbea');
  assert.deepEqual(all.filter(decides).map((d) => d.state), ['waived', 'open', 'open', 'adopting', 'returning']);
  assert.ok(!decides(drift('x', 'a state of a later version', '')));
});

test('a last day ends when it ends in the city', () => {
  const evening = Date.UTC(2026, 10, 27, 18, 30); // 01:30 of the 28th in the city
  assert.equal(dayAfter(evening), '2026-11-28');
  assert.equal(dayAfter(evening, 89), '2027-02-25');
  assert.equal(endOf('2026-11-28'), '2026-11-28T16:59:59.000Z');
  for (let h = 0; h < 48; h++) {
    const now = evening + h * 3600e3;
    const [first, last] = [dayAfter(now), dayAfter(now, 89)].map((d) => Date.parse(endOf(d)));
    assert.ok(first >= now && last > now && last <= now + 90 * 86400e3, `both ends are accepted at hour ${h}`);
  }
});

test('an edit is told field by field', () => {
  const was = { id: 's-1', name: 'UBND', hubs: ['hub-1', 'hub-2'], segments: [{ kind: 'staff', port: 'eth2' }, { kind: 'kiosk', unused: 'none' }], people: 5 };
  const now = { id: 's-1', name: 'UBND mới', hubs: ['hub-2', 'hub-1'], segments: [{ kind: 'kiosk', port: 'eth3' }, { kind: 'staff', port: 'eth2' }], modelled: true };
  assert.deepEqual(editLines(was, now).sort(), [
    '+ modelled: true', '+ segments[kiosk].port: eth3', '- people: 5', '- segments[kiosk].unused: none', '~ hubs[0]: hub-1 → hub-2', '~ hubs[1]: hub-2 → hub-1', '~ name: UBND → UBND mới',
  ]);
  assert.deepEqual(editLines(undefined, { id: 'x', ports: [] }), ['+ id: x', '+ ports: []']);
  assert.deepEqual(editLines({ id: 'x' }, undefined), ['- id: x']);
  assert.deepEqual(editLines({ a: '1' }, { a: 1 }), ['~ a: "1" → 1']);
  assert.equal(editLines({ l: [{ id: 'a' }, { id: 'b' }] }, { l: [{ id: 'b' }, { id: 'a' }] }).length, 2, 'another order is a change');
  assert.deepEqual([operation({ now: {} }), operation({ was: {}, now: {} }), operation({ was: {} })], ['create', 'change', 'remove']);
});

// Two values give no lines exactly when they are the same.
test('no difference is lost', () => {
  let seed = 7;
  const next = (n) => (seed = (seed * 48271) % 2147483647) % n;
  const value = (depth) => {
    switch (next(depth > 2 ? 4 : 6)) {
      case 0: return ['a', '', '1', 'null', '"a"', '[]', '{}'][next(7)];
      case 1: return next(3);
      case 2: return next(2) === 0;
      case 3: return null;
      case 4: return Array.from({ length: next(3) }, () => value(depth + 1));
      default: return Object.fromEntries(Array.from({ length: next(3) }, () => [['id', 'kind', 'x'][next(3)], value(depth + 1)]));
    }
  };
  const same = (a, b) => {
    try {
      assert.deepStrictEqual(a, b);
      return true;
    } catch {
      return false;
    }
  };
  let equal = 0;
  for (let i = 0; i < 5000; i++) {
    const [a, b] = [{ v: value(1) }, { v: value(1) }];
    if (same(a, b)) equal++;
    assert.equal(editLines(a, b).length === 0, same(a, b), JSON.stringify([a, b]));
    assert.deepEqual(editLines(a, structuredClone(a)), []);
  }
  assert.ok(equal > 50, `${equal} equal pairs were tried`);
});

test('what is typed becomes an edit, or says why not', () => {
  const before = { id: 'c-1', name: 'A' };
  const taken = (id) => id === 'c-1';
  assert.deepEqual(draft('change', 'carriers', before, '{"id":"c-1","name":"B"}', taken), { edit: { noun: 'carriers', id: 'c-1', was: before, now: { id: 'c-1', name: 'B' } } });
  assert.deepEqual(draft('create', 'carriers', before, '{"id":"c-2"}', taken), { edit: { noun: 'carriers', id: 'c-2', now: { id: 'c-2' } } });
  assert.deepEqual(draft('remove', 'carriers', before, '', taken), { edit: { noun: 'carriers', id: 'c-1', was: before } });
  const faults = [
    ['change', undefined, '{}', 'edit.nothing'], ['remove', undefined, '', 'edit.nothing'], ['change', before, '{', 'edit.json'], ['change', before, '[]', 'edit.object'],
    ['create', undefined, 'null', 'edit.object'], ['create', undefined, '{"id":""}', 'edit.id'], ['create', undefined, '{"id":"c-1"}', 'edit.taken'],
    ['change', before, '{"id":"c-2","name":"A"}', 'edit.renamed'], ['change', before, '{"name":"A","id":"c-1"}', 'edit.same'],
  ];
  for (const [mode, thing, text, fault] of faults) assert.equal(draft(mode, 'carriers', thing, text, taken).fault, fault, `${mode} ${text}`);
  assert.deepEqual(byPerson([{ by: 'minh', id: 1 }, { by: 'an', id: 2 }, { by: 'minh', id: 3 }]).map(([who, e]) => [who, e.length]), [['an', 1], ['minh', 2]]);
});

test('a profile asks and gives with what it extends', () => {
  const profiles = [
    { id: 'base', variables: [{ name: 'dhcp', type: 'address', default: '10.0.0.1' }, { name: 'port', type: 'text' }], segments: [{ kind: 'staff', port: 'eth1' }, { kind: 'voice' }], circuits: [{ overlay: 'ipsec' }], opens: [{ permit: 'p-1' }] },
    { id: 'ward', extends: 'base', variables: [{ name: 'port', type: 'text', default: 'eth2' }], segments: [{ kind: 'staff', port: '${port}' }], opens: [{ permit: 'p-2', from: ['staff'] }] },
    { id: 'loop', extends: 'loop' },
  ];
  assert.deepEqual(chain(profiles, 'ward').map((p) => p.id), ['ward', 'base']);
  assert.deepEqual(chain(profiles, 'loop').map((p) => p.id), ['loop']);
  assert.deepEqual(chain(profiles, 'none'), []);
  assert.deepEqual(variables(profiles, 'ward').map((v) => [v.name, v.default, v.by]), [['dhcp', '10.0.0.1', 'base'], ['port', 'eth2', 'ward']]);
  assert.deepEqual(figures(profiles, 'ward').map((f) => [f.field, f.value, f.by]), [
    ['circuits[*].overlay', 'ipsec', 'base'], ['opens', 'p-2 (staff)', 'ward'], ['segments[staff].port', '${port}', 'ward'], ['segments[voice]', '✓', 'base'],
  ]);
});

test('an odd version is told, and a difference without its head', () => {
  assert.equal(oddity({ complete: true }), '');
  assert.equal(oddity({ complete: false, note: 'cut' }), 'incomplete');
  assert.equal(oddity({ complete: true, note: 'shrank from 9 to 1 bytes' }), 'collapsed');
  assert.deepEqual(hunks('diff a b\n--- a\n+++ b\n@@ -1,2 +1,2 @@\n x\n-old\n+new\n'), ['@@ -1,2 +1,2 @@', ' x', '-old', '+new']);
  assert.deepEqual(hunks(''), []);
});
