// eventReader parses an event stream (WHATWG HTML, "server-sent events") from
// pieces of text; ids and retry times are not used here.
export function eventReader(take) {
  let rest = '';
  let type = '';
  let data = [];
  return (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') {
        if (data.length) take(type || 'message', data.join('\n'));
        type = '';
        data = [];
        continue;
      }
      const colon = line.indexOf(':');
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'event') type = value;
      else if (field === 'data') data.push(value);
    }
  };
}
