import { rmSync } from 'node:fs';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';
import { check } from './check.js';

const root = import.meta.dirname;

// consistent refuses a build with missing texts or wrong roles, and removes the
// last build: its hashed names would stay in the binary for ever.
const consistent = {
  name: 'wardnet-consistent',
  apply: 'build',
  buildStart() {
    check(root);
    rmSync(`${root}/../static/assets`, { recursive: true, force: true });
  },
};

// The build lands where the Go binary embeds it; everything is served by it,
// nothing is fetched from elsewhere. Nothing may be inlined: the content
// security policy knows no data: addresses.
export default defineConfig({
  plugins: [svelte({ configFile: false }), consistent],
  build: {
    outDir: '../static',
    emptyOutDir: false,
    assetsDir: 'assets',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    target: 'es2022',
    rolldownOptions: { checks: { pluginTimings: false } },
  },
});
