// States of a device, worst first, as lists show them.
export const states = ['down', 'quarantined', 'degraded', 'ok', 'planned'];

const rank = { planned: 0, ok: 1, degraded: 2, quarantined: 3, down: 4 };

export const badness = (state) => rank[state] ?? 0;

// worst is the state a group shows; an empty one is planned.
export function worst(list) {
  let w = 'planned';
  for (const s of list) if (rank[s] > rank[w]) w = s;
  return w;
}

// unitStates gives each unit's state from the devices as they are now. Without
// devices (a person who may not see them) the units' own word holds.
export function unitStates(units, devices) {
  const bySite = new Map();
  for (const d of devices.values()) {
    if (!bySite.has(d.site)) bySite.set(d.site, []);
    bySite.get(d.site).push(d.state);
  }
  const out = new Map();
  for (const u of units) {
    const list = (u.sites ?? []).flatMap((s) => bySite.get(s) ?? []);
    out.set(u.id, devices.size ? worst(list) : u.state);
  }
  return out;
}

// tones colour words of the server's lists; a word may mean another thing in one
// of them.
export const tones = {
  'basket.open': 'info',
  'drift.open': 'degraded',
  critical: 'down',
  major: 'degraded',
  minor: 'info',
  info: 'planned',
  open: 'down',
  acknowledged: 'degraded',
  resolved: 'ok',
  running: 'info',
  waiting: 'planned',
  paused: 'degraded',
  done: 'ok',
  halted: 'down',
  returning: 'degraded',
  aborted: 'planned',
  refused: 'degraded',
  failed: 'down',
  valid: 'ok',
  passed: 'ok',
  skipped: 'planned',
  expired: 'planned',
  revoked: 'down',
  waived: 'planned',
  adopting: 'info',
  returned: 'ok',
  adopted: 'ok',
  overwritten: 'planned',
  gone: 'planned',
  submitted: 'ok',
  dropped: 'planned',
  idle: 'planned',
  same: 'ok',
  changed: 'ok',
  held: 'degraded',
  offline: 'down',
  retry: 'degraded',
  terminal: 'down',
};

const waiting = ['open', 'returning', 'adopting', 'waived'];

// decides says whether a drift still decides what happens to its device.
export const decides = (drift) => waiting.includes(drift.state);

// byDecision sorts drifts: what waits for a person first, what is over last, and
// the newest first.
export function byDecision(a, b) {
  const at = (d) => (decides(d) ? waiting.indexOf(d.state) : waiting.length);
  return at(a) - at(b) || b.found.localeCompare(a.found) || b.id.localeCompare(a.id);
}

const severities = ['info', 'minor', 'major', 'critical'];

// byUrgency sorts incidents: open before resolved, worse first, newest first.
export function byUrgency(a, b) {
  const open = (i) => (i.state === 'resolved' ? 0 : 1);
  return open(b) - open(a) || (open(a) ? severities.indexOf(b.severity) - severities.indexOf(a.severity) : 0) || b.opened.localeCompare(a.opened);
}
