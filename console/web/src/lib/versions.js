// oddity is what is odd about an archived configuration: the device's answer was
// cut, or it is much smaller than the one before; the server notes which.
export function oddity(version) {
  if (!version.complete) return 'incomplete';
  return version.note ? 'collapsed' : '';
}

// hunks are the lines of a unified difference without its head, which names the
// versions.
export function hunks(text) {
  const lines = text.split('\n');
  const from = lines.findIndex((l) => l.startsWith('@@'));
  return from < 0 ? [] : lines.slice(from, lines.at(-1) === '' ? -1 : undefined);
}
