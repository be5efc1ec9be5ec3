// Builds the page into a folder: `forge deploy` packs only what lies inside the app's own.
//
//     node build.mjs <folder, from the caller's>
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const [folder] = process.argv.slice(2);
if (folder === undefined) {
  console.error('usage: node build.mjs <folder>');
  process.exit(2);
}
const source = fileURLToPath(new URL('src', import.meta.url));
const target = resolve(folder);

await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
await build({
  entryPoints: [join(source, 'main.tsx')],
  outfile: join(target, 'page.js'),
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2022',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"' },
  legalComments: 'none',
  logLevel: 'warning',
});
for (const file of ['index.html', 'page.css']) await copyFile(join(source, file), join(target, file));
