// Bundles the emulator with the unmodified code of the companion app. Only the platform's own packages are
// replaced: the app's imports of @forge/kvs and @forge/api end at src/platform/, and browser/bridge.ts is what
// @forge/bridge finds in the browser.
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

await build({
  entryPoints: [here('browser/bridge.ts'), here('browser/refresh.ts')],
  outdir: here('dist'),
  bundle: true,
  format: 'iife',
  target: 'es2022',
  logLevel: 'warning',
});
for (const { entry, outfile, kvs } of [
  { entry: 'src/main.ts', outfile: 'dist/emulator.mjs', kvs: 'src/platform/kvs.ts' },
  { entry: 'src/installations.ts', outfile: 'dist/installations.mjs', kvs: 'src/platform/kvs-per-installation.ts' },
]) {
  await build({
    entryPoints: [here(entry)],
    outfile: here(outfile),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    sourcemap: 'linked',
    alias: {
      '@forge/kvs': here(kvs),
      '@forge/api': here('src/platform/api.ts'),
      'forge-callback-verifier': here('../packages/verifier/src/index.ts'),
    },
    logLevel: 'warning',
  });
}
