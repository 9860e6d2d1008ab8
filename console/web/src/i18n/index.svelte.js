import en from './en.js';
import vi from './vi.js';

const catalogue = { vi, en };
const key = 'wardnet.language';

function remembered() {
  try {
    return localStorage.getItem(key) === 'en' ? 'en' : 'vi';
  } catch {
    return 'vi';
  }
}

let lang = $state(remembered());
document.documentElement.lang = remembered();

export const i18n = {
  get lang() {
    return lang;
  },
  get locale() {
    return lang === 'en' ? 'en-GB' : 'vi-VN';
  },
  use(next) {
    lang = next;
    document.documentElement.lang = next;
    try {
      localStorage.setItem(key, next);
    } catch {
      // Private windows may refuse; the choice then lasts as long as the page.
    }
  },
};

// t gives the text of a key in the language in use, {name} replaced from params.
export function t(key, params = {}) {
  const text = catalogue[lang][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name) => params[name] ?? all);
}

// known is t for words that come from the server: an unknown one is shown as it is.
export function known(prefix, word) {
  return catalogue[lang][`${prefix}.${word}`] ?? word;
}

// either chooses the part of a bilingual value {vi, en}.
export function either(texts) {
  return texts?.[lang] ?? texts?.vi ?? texts?.en ?? '';
}
