import { address, get } from './api.js';
import { may, session } from './session.svelte.js';
import { announce } from './notices.svelte.js';
import { eventReader } from './sse.js';

const silence = 40_000; // the server beats every 15 s
const longestWait = 30_000;

export const driftsOver = 300; // of those that are over, so many are kept

// A controller need not keep routers or drifts.
const unless404 = (e) => {
  if (e.status === 404) return [];
  throw e;
};

const byID = (list) => new Map((list ?? []).map((x) => [x.id, x]));

// Live is what the console knows of the city now: read once when the stream of
// events opens, then kept by the events.
class Live {
  status = $state('connecting'); // connecting, live, stale
  since = $state.raw(0); // when the last word came, ms
  loaded = $state(false);
  summary = $state.raw(undefined);
  devices = $state.raw(new Map());
  incidents = $state.raw(new Map());
  rollouts = $state.raw(new Map());
  routers = $state.raw(new Map());
  drifts = $state.raw(new Map()); // all that wait, and the newest of those that are over
  baskets = $state.raw(new Map()); // what was told of them; the rest is read where it is shown
  units = $state.raw([]);
  sites = $state.raw(new Map());
  decisions = $state.raw([]);
  #abort;
  #pending = [];
  #timer;
  #version;
  #reading = false;

  start() {
    this.stop();
    const abort = new AbortController();
    this.#abort = abort;
    this.#run(abort.signal);
  }

  stop() {
    this.#abort?.abort();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#pending = [];
    this.loaded = false;
    this.summary = undefined;
    this.devices = this.incidents = this.rollouts = this.routers = this.drifts = this.baskets = this.sites = new Map();
    this.units = this.decisions = [];
    this.status = 'connecting';
  }

  async #run(signal) {
    let wait = 500;
    while (!signal.aborted) {
      try {
        await this.#follow(signal, () => (wait = 500));
      } catch (e) {
        if (signal.aborted) return;
        if (e.status === 401) {
          await session.resume();
          return;
        }
      }
      if (signal.aborted) return;
      this.status = 'stale';
      await new Promise((go) => setTimeout(go, wait * (0.5 + Math.random())));
      wait = Math.min(wait * 2, longestWait);
    }
  }

  // follow reads one stream to its end.
  async #follow(signal, opened) {
    const own = new AbortController();
    const stop = () => own.abort();
    signal.addEventListener('abort', stop);
    let watchdog;
    const heard = () => {
      this.since = Date.now();
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, silence);
    };
    try {
      heard();
      const res = await fetch(address('/events'), { headers: { Accept: 'text/event-stream' }, cache: 'no-store', signal: own.signal });
      if (!res.ok) throw { status: res.status };
      this.#reading = true;
      this.#readAll(signal).then(opened, stop);
      const read = eventReader((type, data) => this.#take(type, JSON.parse(data)));
      const body = res.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await body.read();
        if (done) return;
        heard();
        read(value);
      }
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener('abort', stop);
      own.abort();
    }
  }

  // readAll loads what the events then change; events wait meanwhile.
  async #readAll(signal) {
    const want = (operation, path, query) => (may(operation) ? get(path, query) : []);
    const rare = (...what) => Promise.resolve(want(...what)).catch(unless404);
    const [units, sites, devices, incidents, rollouts, routers, drifts] = await Promise.all([
      get('/units'),
      want('list-sites', '/sites'),
      want('list-devices', '/devices'),
      want('list-incidents', '/incidents'),
      want('list-rollouts', '/rollouts'),
      rare('list-routers', '/routers'),
      rare('list-drifts', '/drifts', { over: driftsOver }),
    ]);
    if (signal.aborted) return;
    this.units = units;
    this.sites = byID(sites);
    this.devices = byID(devices);
    this.incidents = byID(incidents);
    this.rollouts = byID(rollouts);
    this.routers = byID(routers);
    this.drifts = byID(drifts);
    this.loaded = true;
    this.status = 'live';
    this.#reading = false;
    this.#apply();
  }

  async #readPlaces() {
    try {
      const [units, sites, devices, routers] = await Promise.all([
        get('/units'),
        may('list-sites') ? get('/sites') : [],
        may('list-devices') ? get('/devices') : [],
        may('list-routers') ? get('/routers').catch(unless404) : [],
      ]);
      this.units = units;
      this.sites = byID(sites);
      this.devices = byID(devices);
      this.routers = byID(routers);
    } catch {
      // The stream will be reopened and everything read again.
    }
  }

  #take(type, data) {
    this.#pending.push([type, data]);
    if (!this.#reading && this.#timer === undefined) this.#timer = setTimeout(() => this.#apply(), 80);
  }

  // apply takes what came in one go: a fault at many wards is one redraw.
  #apply() {
    this.#timer = undefined;
    const events = this.#pending;
    this.#pending = [];
    const maps = {};
    const edit = (name) => (maps[name] ??= new Map(this[name]));
    for (const [type, data] of events) {
      switch (type) {
        case 'summary':
          this.#summary(data);
          break;
        case 'device':
        case 'router':
        case 'drift':
        case 'basket':
        case 'rollout':
          edit(type + 's').set(data.id, data);
          break;
        case 'incident':
          this.#tell(data);
          edit('incidents').set(data.id, data);
          break;
        case 'decision':
          this.decisions = [data, ...this.decisions].slice(0, 50);
      }
    }
    Object.assign(this, maps);
  }

  // learn takes an answer to a person's own action, before its event comes.
  learn(name, object) {
    this[name] = new Map(this[name]).set(object.id, object);
  }

  #summary(s) {
    const moved = this.#version !== undefined && s.inventory_version !== this.#version;
    this.#version = s.inventory_version;
    this.summary = s;
    // Whoever may not see devices still sees the map.
    if (this.loaded && (moved || !may('list-devices'))) this.#readPlaces();
  }

  #tell(incident) {
    const before = this.incidents.get(incident.id);
    if (!before || (before.state === 'resolved' && incident.state !== 'resolved')) announce(incident);
    else if (before.state !== 'resolved' && incident.state === 'resolved') announce(incident);
  }
}

export const live = new Live();
