import { Delaunay } from 'd3-delaunay';

const kmPerDegree = 111.2;
const share = 0.95;

// project maps WGS 84 degrees to kilometres on a plane, north up; over a city
// the error of the equirectangular projection is far below a pixel.
export function projection(points) {
  const lat0 = points.reduce((s, p) => s + p.lat, 0) / (points.length || 1);
  const k = Math.cos((lat0 * Math.PI) / 180);
  return (lon, lat) => [lon * k * kmPerDegree, -lat * kmPerDegree];
}

// split parts places that lie far from all others (an island) from the rest.
export function split(places) {
  if (places.length < 4) return { near: places, far: [] };
  const gap = places.map((p, i) => Math.min(...places.map((q, j) => (i === j ? Infinity : Math.hypot(p.x - q.x, p.y - q.y)))));
  const usual = [...gap].sort((a, b) => a - b)[Math.floor(places.length * share)];
  const limit = Math.max(usual * 5, 1);
  return { near: places.filter((_, i) => gap[i] <= limit), far: places.filter((_, i) => gap[i] > limit) };
}

function disc(x, y, r, n = 28) {
  return Array.from({ length: n }, (_, i) => [x + r * Math.cos((2 * Math.PI * i) / n), y + r * Math.sin((2 * Math.PI * i) / n)]);
}

// hull is the convex hull of the points, each grown to a disc of radius pad.
function hull(points, pad) {
  const grown = points.flatMap((p) => disc(p.x, p.y, pad, 16));
  const d = Delaunay.from(grown);
  return Array.from(d.hull, (i) => grown[i]);
}

const cross = (a, b, p) => (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]);

function meet(a, b, p, q) {
  const dp = cross(a, b, p);
  const dq = cross(a, b, q);
  const f = dp / (dp - dq);
  return [p[0] + f * (q[0] - p[0]), p[1] + f * (q[1] - p[1])];
}

export function area(ring) {
  let s = 0;
  for (let i = 0; i < ring.length; i++) {
    const [a, b] = [ring[i], ring[(i + 1) % ring.length]];
    s += a[0] * b[1] - b[0] * a[1];
  }
  return s / 2;
}

// clip cuts a polygon to a convex one (Sutherland and Hodgman, 1974).
export function clip(polygon, convex) {
  const around = area(convex) < 0 ? [...convex].reverse() : convex;
  let out = polygon;
  for (let i = 0; i < around.length && out.length; i++) {
    const [a, b] = [around[i], around[(i + 1) % around.length]];
    const from = out;
    out = [];
    for (let j = 0; j < from.length; j++) {
      const [p, q] = [from[j], from[(j + 1) % from.length]];
      const [inP, inQ] = [cross(a, b, p) >= 0, cross(a, b, q) >= 0];
      if (inP) out.push(p);
      if (inP !== inQ) out.push(meet(a, b, p, q));
    }
  }
  return out;
}

function path(rings) {
  return rings.map((r) => 'M' + r.map(([x, y]) => `${x.toFixed(3)},${y.toFixed(3)}`).join('L') + 'Z').join('');
}

// cells gives each place its Voronoi cell, cut to the padded hull of all. Empty
// land and sea beside the places get cells of their own, which are not drawn, so
// that a place at the edge does not claim them.
export function cells(places, { pad = 4, reach = 11, grid = 6.5 } = {}) {
  if (places.length < 3) return places.map((p) => ({ ...p, ...shape([[disc(p.x, p.y, pad)]], p) }));
  const all = [...places, ...empty(places, reach, grid)];
  const voronoi = Delaunay.from(all, (p) => p.x, (p) => p.y).voronoi(bounds(all, reach));
  const border = hull(places, pad);
  return places.map((p, i) => {
    const raw = voronoi.cellPolygon(i); // none for the second of two places at one spot
    const ring = raw ? clip(raw.slice(0, -1), border) : disc(p.x, p.y, 0.3);
    return { ...p, ...shape([[ring]], p) };
  });
}

// empty lists the points of a hexagonal grid around the places that are farther
// than reach from each of them.
function empty(places, reach, grid) {
  const [x0, y0, x1, y1] = bounds(places, 2 * reach);
  const out = [];
  for (let row = 0, y = y0; y <= y1; row++, y += grid * 0.866) {
    for (let x = x0 + (row % 2) * (grid / 2); x <= x1; x += grid) {
      if (places.every((p) => Math.hypot(p.x - x, p.y - y) > reach)) out.push({ x, y });
    }
  }
  return out;
}

// shape is a path with its size and the middle of its largest part, where a
// sign or a name goes.
function shape(polygons, at) {
  const outers = polygons.map(([outer]) => outer).sort((a, b) => Math.abs(area(b)) - Math.abs(area(a)));
  const size = outers.reduce((s, outer) => s + Math.abs(area(outer)), 0);
  const [lx, ly] = outers[0] ? centroid(outers[0]) : [at.x, at.y];
  return { d: path(polygons.flat()), rings: polygons.flat(), size, cx: at.x, cy: at.y, lx, ly };
}

function centroid(ring) {
  const whole = area(ring);
  if (!whole) return ring[0];
  let [x, y] = [0, 0];
  for (let i = 0; i < ring.length; i++) {
    const [a, b] = [ring[i], ring[(i + 1) % ring.length]];
    const f = a[0] * b[1] - b[0] * a[1];
    x += (a[0] + b[0]) * f;
    y += (a[1] + b[1]) * f;
  }
  return [x / (6 * whole), y / (6 * whole)];
}

// outlined gives places the shapes of a GeoJSON feature collection by code.
export function outlined(places, geojson, to) {
  const byCode = new Map();
  for (const f of geojson.features ?? []) {
    const g = f.geometry;
    const polygons = g?.type === 'Polygon' ? [g.coordinates] : g?.type === 'MultiPolygon' ? g.coordinates : [];
    const code = String(f.properties?.code ?? f.id ?? '');
    if (polygons.length) byCode.set(code, polygons.map((rings) => rings.map((r) => r.map(([lon, lat]) => to(lon, lat)))));
  }
  return places.filter((p) => byCode.has(p.code)).map((p) => ({ ...p, ...shape(byCode.get(p.code), p) }));
}

// bounds is [x0, y0, x1, y1] of places or rings, padded.
export function bounds(places, pad = 0) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
  const add = (x, y) => {
    x0 = Math.min(x0, x);
    y0 = Math.min(y0, y);
    x1 = Math.max(x1, x);
    y1 = Math.max(y1, y);
  };
  for (const p of places) {
    if (p.rings) p.rings.forEach((r) => r.forEach(([x, y]) => add(x, y)));
    else add(p.x, p.y);
  }
  return [x0 - pad, y0 - pad, x1 + pad, y1 + pad];
}

// towards is the place nearest to one in the direction of an arrow key.
export function towards(places, from, [dx, dy]) {
  let best;
  let least = Infinity;
  for (const p of places) {
    const [x, y] = [p.x - from.x, p.y - from.y];
    const along = x * dx + y * dy;
    const aside = Math.abs(x * dy - y * dx);
    if (along <= 0 || aside > along * 1.5) continue;
    const cost = along + 2 * aside;
    if (cost < least) [least, best] = [cost, p];
  }
  return best;
}
