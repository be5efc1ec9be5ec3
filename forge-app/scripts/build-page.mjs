// Builds the page into static/page/build, the folder that manifest.yml names as its resource.
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(`../static/page/${path}`, import.meta.url));

await rm(here('build'), { recursive: true, force: true });
await mkdir(here('build'), { recursive: true });
await build({
  entryPoints: [here('src/main.tsx')],
  outfile: here('build/page.js'),
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2022',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"' },
  legalComments: 'none',
  logLevel: 'warning',
});
for (const file of ['index.html', 'page.css']) await copyFile(here(`src/${file}`), here(`build/${file}`));
