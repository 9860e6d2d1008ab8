// What the build refuses: catalogues whose keys or placeholders differ, a key
// that a page uses and no catalogue has, roles other than the server's, and a
// question about an operation that has no roles.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { access } from './src/lib/access.js';
import en from './src/i18n/en.js';
import vi from './src/i18n/vi.js';

const holes = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).sort().join();

function catalogues() {
  const faults = [];
  for (const key of new Set([...Object.keys(vi), ...Object.keys(en)])) {
    if (!vi[key]) faults.push(`${key} has no Vietnamese text`);
    else if (!en[key]) faults.push(`${key} has no English text`);
    else if (holes(vi[key]) !== holes(en[key])) faults.push(`${key}: the placeholders differ: {${holes(vi[key])}} and {${holes(en[key])}}`);
  }
  return faults;
}

function sources(dir) {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((f) => f.isFile() && /\.(svelte|js)$/.test(f.name))
    .map((f) => join(f.parentPath, f.name));
}

// Keys that are put together ("state." + word) are found by their beginning.
function used(dir) {
  const faults = [];
  const keys = Object.keys(vi);
  for (const file of sources(dir)) {
    const text = readFileSync(file, 'utf8');
    for (const [, key] of text.matchAll(/\bt\('([^']+)'/g)) if (!(key in vi)) faults.push(`${file}: no text for ${key}`);
    for (const [, start] of text.matchAll(/\bt\(`([^`$]+)\$\{/g)) if (!keys.some((k) => k.startsWith(start))) faults.push(`${file}: no text begins with ${start}`);
    for (const [, list] of text.matchAll(/\bknown\('([^']+)'/g)) if (!keys.some((k) => k.startsWith(list + '.'))) faults.push(`${file}: no text begins with ${list}.`);
    for (const [, operation] of text.matchAll(/\b(?:may\(|needs: )'([^']+)'/g)) if (!(operation in access)) faults.push(`${file}: no roles for ${operation}`);
  }
  return faults;
}

function roles(table) {
  if (!existsSync(table)) return [];
  const go = readFileSync(table, 'utf8');
  const groups = { everyone: ['admin', 'auditor', 'engineer', 'noc', 'security'] };
  const names = (s) => [...s.matchAll(/client\.Role(\w+)/g)].map((m) => m[1].toLowerCase()).sort();
  for (const [, name, list] of go.matchAll(/^\s*(\w+)\s*=\s*\[\]client\.Role\{([^}]*)\}/gm)) groups[name] = names(list);
  const faults = [];
  for (const [operation, mine] of Object.entries(access)) {
    const row = new RegExp(`"${operation}":\\s*(?:\\{([^}]*)\\}|(\\w+))`).exec(go);
    const theirs = row && (row[1] !== undefined ? names(row[1]) : groups[row[2]]);
    if (!theirs) faults.push(`${operation} is not in the server's access table`);
    else if (theirs.join() !== [...mine].sort().join()) faults.push(`${operation}: roles ${[...mine].sort().join()} here, ${theirs.join()} in the server's table`);
  }
  return faults;
}

export function check(root) {
  const faults = [...catalogues(), ...used(join(root, 'src')), ...roles(join(root, '../auth.go'))];
  if (faults.length) throw new Error('the console is not consistent:\n  ' + faults.join('\n  '));
}
