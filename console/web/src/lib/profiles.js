// chain lists a profile and those it extends, nearest first; a loop, which the
// inventory refuses, ends it.
export function chain(profiles, id) {
  const byID = new Map(profiles.map((p) => [p.id, p]));
  const out = [];
  for (let p = byID.get(id); p && !out.includes(p); p = byID.get(p.extends)) out.push(p);
  return out;
}

// variables lists what a profile asks of a site, each with the profile that
// declares it last.
export function variables(profiles, id) {
  const found = new Map();
  for (const p of chain(profiles, id)) for (const v of p.variables ?? []) if (!found.has(v.name)) found.set(v.name, { ...v, by: p.id });
  return [...found.values()].sort((a, b) => a.name.localeCompare(b.name));
}

// figures lists what a profile gives its sites, those it extends included: a row
// for each field with the profile that wins.
export function figures(profiles, id) {
  const rows = new Map();
  const put = (by, field, value) => {
    if (value !== undefined && value !== '' && !rows.has(field)) rows.set(field, { field, value: typeof value === 'string' ? value : JSON.stringify(value), by });
  };
  for (const p of chain(profiles, id)) {
    put(p.id, 'bfd_interval_ms', p.bfd_interval_ms);
    for (const [list, key] of [['segments', 'kind'], ['circuits', 'kind'], ['uplinks', 'name']]) {
      for (const { [key]: name, ...rest } of p[list] ?? []) {
        const at = `${list}[${name ?? '*'}]`;
        if (!Object.keys(rest).length) put(p.id, at, '✓');
        for (const [k, v] of Object.entries(rest)) put(p.id, `${at}.${k}`, v);
      }
    }
    if (p.opens) put(p.id, 'opens', p.opens.map((o) => o.permit + (o.from?.length ? ` (${o.from.join(', ')})` : '')).join(', '));
  }
  return [...rows.values()].sort((a, b) => a.field.localeCompare(b.field));
}
