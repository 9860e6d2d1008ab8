const prefix = '/api/v1';

// Problem is the API's error body (RFC 9457) as an exception.
export class Problem extends Error {
  constructor(body) {
    super(body.detail || body.title || `HTTP ${body.status}`);
    this.name = 'Problem';
    this.status = body.status;
    this.title = body.title ?? '';
    this.detail = body.detail ?? '';
    this.hint = body.hint ?? '';
    this.faults = body.faults ?? [];
    this.held = body.type === 'held';
  }
}

let csrf = '';
let signedOut = () => {};

// useCSRF sets the token that every write carries.
export function useCSRF(token) {
  csrf = token;
}

// onSignedOut names who is told that the session is no more.
export function onSignedOut(fn) {
  signedOut = fn;
}

export function address(path, query = {}) {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== '' && value !== null) q.set(name, value);
  }
  const tail = q.toString();
  return prefix + path + (tail ? '?' + tail : '');
}

async function problemOf(res) {
  let body = {};
  try {
    body = await res.json();
  } catch {
    // Not ours: a proxy's page, perhaps.
  }
  return new Problem({ title: res.statusText, ...body, status: res.status });
}

async function call(method, path, { query, body, quiet } = {}) {
  const headers = { Accept: 'application/json' };
  const init = { method, headers, credentials: 'same-origin', cache: 'no-store' };
  if (method !== 'GET') {
    if (csrf) headers['X-CSRF-Token'] = csrf;
    if (body !== undefined) {
      headers['Content-Type'] = 'application/json';
      init.body = JSON.stringify(body);
    }
  }
  let res;
  try {
    res = await fetch(address(path, query), init);
  } catch {
    throw new Problem({ status: 0, title: 'network' });
  }
  if (!res.ok) {
    const p = await problemOf(res);
    if (res.status === 401 && !quiet) signedOut();
    throw p;
  }
  if (res.status === 204) return undefined;
  const text = await res.text();
  return text ? JSON.parse(text) : undefined;
}

export const get = (path, query) => call('GET', path, { query });
export const post = (path, body = {}) => call('POST', path, { body });
export const patch = (path, body) => call('PATCH', path, { body });
export const remove = (path) => call('DELETE', path);
// ask is get, post for those who are not signed in: a 401 ends no session.
export const ask = (method, path, body) => call(method, path, { body, quiet: true });

// at joins escaped path segments.
export const at = (...parts) => '/' + parts.map(encodeURIComponent).join('/');
