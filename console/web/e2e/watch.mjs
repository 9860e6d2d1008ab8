import assert from 'node:assert/strict';

// browserOptions start Chromium so that it asks nobody for anything by itself.
export function browserOptions() {
  return {
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  };
}

// Watch notes what a page must never do: log an error or a refusal by the
// content security policy, or ask another host.
export class Watch {
  #errors = [];
  #foreign = new Set();

  constructor(page, base) {
    page.on('console', (m) => {
      if (['error', 'warning'].includes(m.type())) this.#errors.push(`${m.type()}: ${m.text()} (${m.location().url})`);
    });
    page.on('pageerror', (e) => this.#errors.push(`exception: ${e.message}`));
    page.on('request', (r) => {
      if (new URL(r.url()).host !== base.host) this.#foreign.add(r.url());
    });
  }

  lines() {
    return [...this.#errors, ...[...this.#foreign].map((u) => `another host was asked: ${u}`)];
  }

  check() {
    assert.deepEqual(this.lines(), [], 'no error on the console and no request to another host');
  }
}
