import { bounds, cells, outlined, projection, split } from './geometry.js';

const pad = 3; // km around the drawing

// drawing computes what the map shows of the units: shapes of those that lie
// together, insets of those that lie far away, and the frames for the views.
export function drawing(units, outline) {
  const placed = units.filter((u) => u.kind !== 'department' && (u.lat || u.lon));
  const to = projection(placed);
  const places = placed.map((u) => {
    const [x, y] = to(u.lon, u.lat);
    return { id: u.id, code: u.code, name: u.name, kind: u.kind, x, y };
  });
  const { near, far } = split(places);
  const shapes = outline ? outlined(near, outline, to) : cells(near);
  const insets = far.map((p) => {
    const [shape] = outline ? outlined([p], outline, to) : cells([p], { pad: 5 });
    const away = Math.min(...near.map((q) => Math.hypot(q.x - p.x, q.y - p.y)));
    return shape ? { ...shape, away, frame: frame(bounds([shape], 1.5)) } : undefined;
  });
  return {
    to,
    shapes,
    insets: insets.filter(Boolean),
    whole: frame(shapes.length ? bounds(shapes, pad) : [0, 0, 1, 1]),
    centre: frame(dense(near)),
  };
}

const frame = ([x0, y0, x1, y1]) => ({ x: x0, y: y0, w: x1 - x0, h: y1 - y0 });

const middle = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0;

// dense is the box of the part where most units stand close together.
function dense(places) {
  if (places.length < 8) return bounds(places, pad);
  const gap = new Map(places.map((p) => [p, Math.min(...places.map((q) => (p === q ? Infinity : Math.hypot(p.x - q.x, p.y - q.y))))]));
  const usual = middle([...gap.values()]);
  const close = places.filter((p) => gap.get(p) <= usual);
  const [x, y] = [middle(close.map((p) => p.x)), middle(close.map((p) => p.y))];
  const r = [...close].map((p) => Math.hypot(p.x - x, p.y - y)).sort((a, b) => a - b)[Math.floor(close.length * 0.7)] || pad;
  return [x - r, y - r, x + r, y + r];
}

// zoomed is a frame scaled about a point, kept inside the whole.
export function zoomed(view, whole, factor, at) {
  const w = Math.min(whole.w, Math.max(whole.w / 40, view.w * factor));
  const f = w / view.w;
  return kept({ x: at.x - (at.x - view.x) * f, y: at.y - (at.y - view.y) * f, w, h: view.h * f }, whole);
}

export function kept(view, whole) {
  const slack = 0.15;
  const hold = (v, size, from, length) =>
    size >= length ? from + (length - size) / 2 : Math.min(Math.max(v, from - slack * size), from + length - size + slack * size);
  return { ...view, x: hold(view.x, view.w, whole.x, whole.w), y: hold(view.y, view.h, whole.y, whole.h) };
}

// fitted widens a frame to the proportions of the screen.
export function fitted(f, ratio) {
  const w = Math.max(f.w, f.h * ratio);
  const h = w / ratio;
  return { x: f.x - (w - f.w) / 2, y: f.y - (h - f.h) / 2, w, h };
}
