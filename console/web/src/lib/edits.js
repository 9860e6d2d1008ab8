// A basket's edit changes one thing of the inventory: {noun, id, was, now}, the
// thing as JSON; one of the two is left out where it is made or removed.

// Nouns that a person edits one by one. Addresses are allotted by the controller.
export const nouns = ['sites', 'circuits', 'devices', 'routers', 'profiles', 'applications', 'permits', 'carriers', 'units', 'pools'];

export function operation(edit) {
  if (edit.was === undefined) return 'create';
  return edit.now === undefined ? 'remove' : 'change';
}

const nameOf = (v) => [v?.id, v?.kind, v?.name].find((n) => typeof n === 'string' && n !== '');

// plain shows a text without quotes unless it could be taken for something else.
function plain(value) {
  if (typeof value !== 'string') return JSON.stringify(value);
  try {
    JSON.parse(value);
    return JSON.stringify(value);
  } catch {
    return value;
  }
}

// leaves lists a value's fields with their paths: segments[staff].port; members
// of a list are told by name, where they have names and names is asked for.
function leaves(value, names, path = '', out = new Map()) {
  if (Array.isArray(value) && value.length) {
    const all = value.map(nameOf);
    const telling = names && all.every(Boolean) && new Set(all).size === all.length;
    value.forEach((v, i) => leaves(v, names, `${path}[${telling ? all[i] : i}]`, out));
  } else if (value && typeof value === 'object' && Object.keys(value).length) {
    for (const [k, v] of Object.entries(value)) leaves(v, names, path ? `${path}.${k}` : k, out);
  } else {
    out.set(path, plain(value));
  }
  return out;
}

// editLines tells what an edit changes, a line each: "+", "-" or "~" first. Where
// only the order of a list differs, its members are told by their places.
export function editLines(was, now) {
  const lines = compared(was, now, true);
  return lines.length ? lines : compared(was, now, false);
}

function compared(was, now, names) {
  const [a, b] = [was, now].map((v) => (v === undefined ? new Map() : leaves(v, names)));
  const lines = [];
  for (const path of new Set([...a.keys(), ...b.keys()])) {
    if (!b.has(path)) lines.push(`- ${path}: ${a.get(path)}`);
    else if (!a.has(path)) lines.push(`+ ${path}: ${b.get(path)}`);
    else if (a.get(path) !== b.get(path)) lines.push(`~ ${path}: ${a.get(path)} → ${b.get(path)}`);
  }
  return lines;
}

// byPerson groups edits by who made them, in the order of names.
export function byPerson(edits) {
  const people = new Map();
  for (const e of edits) people.set(e.by, [...(people.get(e.by) ?? []), e]);
  return [...people].sort(([a], [b]) => a.localeCompare(b));
}

// draft makes the edit that a person has typed: mode is change, create or
// remove, before the thing in force, text what it is to become as JSON. Else
// fault is a key of the catalogue, and why what the reader of JSON says.
export function draft(mode, noun, before, text, taken) {
  if (mode === 'remove') return before ? { edit: { noun, id: before.id, was: before } } : { fault: 'edit.nothing' };
  if (mode === 'change' && !before) return { fault: 'edit.nothing' };
  let now;
  try {
    now = JSON.parse(text);
  } catch (e) {
    return { fault: 'edit.json', why: e.message };
  }
  if (!now || typeof now !== 'object' || Array.isArray(now)) return { fault: 'edit.object' };
  if (!now.id || typeof now.id !== 'string') return { fault: 'edit.id' };
  if (mode === 'create') return taken(now.id) ? { fault: 'edit.taken' } : { edit: { noun, id: now.id, now } };
  if (now.id !== before.id) return { fault: 'edit.renamed' };
  return editLines(before, now).length ? { edit: { noun, id: before.id, was: before, now } } : { fault: 'edit.same' };
}
