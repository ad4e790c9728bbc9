// Three files, all beside the page: their names hold what is in them, so that a browser may keep them for good. Nothing is inlined, for the
// page's policy allows no inline script and no inline style. Each is there packed, too, so that the gateway need not do it.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  publicDir: false,
  build: {
    target: 'es2022',
    assetsDir: '',
    assetsInlineLimit: 0,
    modulePreload: false,
    emptyOutDir: true,
    reportCompressedSize: false,
    rolldownOptions: {
      output: { entryFileNames: 'page-[hash].js', assetFileNames: 'page-[hash][extname]' },
    },
  },
  plugins: [{
    name: 'packed',
    writeBundle({ dir = '' }) {
      for (const file of readdirSync(dir)) writeFileSync(join(dir, `${file}.gz`), gzipSync(readFileSync(join(dir, file)), { level: 9 }));
    },
  }],
});
