// Pages live behind the hash: identifiers may hold dots and slashes, which no
// server-side rule for paths then has to know.
function parse() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [page = '', ...rest] = path.split('/').map((p) => {
    try {
      return decodeURIComponent(p);
    } catch {
      return p;
    }
  });
  return { page, id: rest.join('/'), query: new URLSearchParams(query), key: path };
}

let now = $state.raw(parse());
window.addEventListener('hashchange', () => {
  const before = now.key;
  now = parse();
  if (now.key !== before) window.scrollTo(0, 0);
});

export const route = {
  get page() {
    return now.page;
  },
  get id() {
    return now.id;
  },
  get query() {
    return now.query;
  },
  get key() {
    return now.key;
  },
};

export function href(page, id, query) {
  const q = query ? '?' + new URLSearchParams(query) : '';
  return '#/' + page + (id === undefined || id === '' ? '' : '/' + encodeURIComponent(id)) + q;
}

// hrefOf is the page of a box: a router of the data centre has its own.
export const hrefOf = (id, routers) => href(routers.has(id) ? 'routers' : 'devices', id);

export function go(...to) {
  location.hash = href(...to);
}

// remember puts a page's filters into its address without a step in the history.
export function remember(query) {
  const kept = Object.fromEntries(Object.entries(query).filter(([, v]) => v));
  const next = href(now.page, now.id, Object.keys(kept).length ? kept : undefined);
  if (location.hash !== next) history.replaceState(null, '', next);
}
