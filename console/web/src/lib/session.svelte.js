import { access } from './access.js';
import { ask, onSignedOut, useCSRF } from './api.js';

let user = $state.raw(undefined);
let state = $state('unknown'); // unknown, out, in, unreachable
let expired = $state(false);

// A mark that this browser has signed in: without it there is no session to ask
// the server about. It is no secret and proves nothing.
const mark = 'wardnet.signed-in';
function marked(yes) {
  try {
    if (yes === undefined) return localStorage.getItem(mark) === 'yes';
    if (yes) localStorage.setItem(mark, 'yes');
    else localStorage.removeItem(mark);
  } catch {
    return true; // no storage: ask
  }
}

function begin(s) {
  marked(true);
  user = s.user;
  useCSRF(s.csrf);
  state = 'in';
  expired = false;
}

function end() {
  marked(false);
  user = undefined;
  useCSRF('');
  state = 'out';
}

onSignedOut(() => {
  expired = state === 'in';
  end();
});

export const session = {
  get user() {
    return user;
  },
  get state() {
    return state;
  },
  get expired() {
    return expired;
  },
  async resume() {
    if (!marked()) return end();
    try {
      begin(await ask('GET', '/session'));
    } catch (e) {
      if (e.status === 401) end();
      else state = 'unreachable';
    }
  },
  async signIn(name, password) {
    begin(await ask('POST', '/session', { name, password }));
  },
  async setUp(form) {
    begin(await ask('POST', '/setup', form));
  },
  async signOut() {
    try {
      await ask('DELETE', '/session');
    } finally {
      expired = false;
      end();
    }
  },
};

// may says whether a role of the person allows an operation.
export function may(operation) {
  return Boolean(user) && (access[operation] ?? []).some((r) => user.roles.includes(r));
}
