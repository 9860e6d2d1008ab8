import { i18n, t } from '../i18n/index.svelte.js';

const zone = 'Asia/Ho_Chi_Minh';
let tick = $state(Date.now());
setInterval(() => (tick = Date.now()), 5000);

// clock is the present, moving every few seconds, for ages on screen.
export const clock = {
  get now() {
    return tick;
  },
};

const formats = new Map();
function format(kind, options, make) {
  const key = kind + i18n.locale;
  if (!formats.has(key)) formats.set(key, make(i18n.locale, options));
  return formats.get(key);
}
const dates = (kind, options) => format(kind, { timeZone: zone, hourCycle: 'h23', ...options }, (l, o) => new Intl.DateTimeFormat(l, o));

const full = { day: '2-digit', month: '2-digit', year: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit' };

export function dateTime(at) {
  return at ? dates('full', full).format(new Date(at)) : '–';
}

export function timeOnly(at) {
  return at ? dates('time', { hour: '2-digit', minute: '2-digit', second: '2-digit' }).format(new Date(at)) : '–';
}

// spell writes a number of seconds in at most two units.
export function spell(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 1) return t('span.less');
  if (s < 60) return t('span.s', { n: s });
  if (s < 3600) return t('span.m', { n: Math.floor(s / 60), s: s % 60 });
  if (s < 86400) return t('span.h', { n: Math.floor(s / 3600), m: Math.floor((s % 3600) / 60) });
  return t('span.d', { n: Math.floor(s / 86400), h: Math.floor((s % 86400) / 3600) });
}

// ago says how long before now, or from now, a moment lies.
export function ago(at) {
  if (!at) return t('time.never');
  const s = (clock.now - new Date(at)) / 1000;
  if (s < -5) return t('time.in', { span: rough(-s) });
  if (s < 5) return t('time.now');
  return t('time.ago', { span: rough(s) });
}

function rough(s) {
  if (s < 60) return t('rough.s', { n: Math.round(s / 5) * 5 || 5 });
  if (s < 3600) return t('rough.m', { n: Math.round(s / 60) });
  if (s < 86400) return t('rough.h', { n: Math.round(s / 3600) });
  return t('rough.d', { n: Math.round(s / 86400) });
}

export function num(n, digits = 0) {
  if (n === undefined || n === null || Number.isNaN(n)) return '–';
  return format('num' + digits, { maximumFractionDigits: digits }, (l, o) => new Intl.NumberFormat(l, o)).format(n);
}

export function compact(n) {
  if (n === undefined || n === null) return '–';
  if (n < 10_000_000) return num(n);
  return format('compact', { notation: 'compact', maximumFractionDigits: 1 }, (l, o) => new Intl.NumberFormat(l, o)).format(n);
}

export function percent(ratio, digits = 0) {
  if (ratio === undefined || ratio === null || Number.isNaN(ratio)) return '–';
  return num(ratio * 100, digits) + ' %';
}

export function megabytes(bytes) {
  return num(bytes / 1e6) + ' MB';
}

// bitRate writes decimal bits per second, as carriers sell them.
export function bitRate(bps) {
  if (!bps) return '–';
  const units = ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s'];
  let i = 0;
  let v = bps;
  while (v >= 1000 && i < 3) {
    v /= 1000;
    i++;
  }
  return `${num(v, v < 10 ? 1 : 0)} ${units[i]}`;
}
