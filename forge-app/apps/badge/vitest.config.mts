import { fileURLToPath } from 'node:url';

import { defineConfig } from 'vitest/config';

const platform = (file: string) => fileURLToPath(new URL(`../../emulator/src/platform/${file}`, import.meta.url));

export default defineConfig({
  resolve: {
    alias: {
      '@forge/kvs': platform('kvs.ts'),
      '@forge/api': platform('api.ts'),
      // The source rather than dist, so that no test runs against an old build.
      'forge-callback-verifier': fileURLToPath(new URL('../../packages/verifier/src/index.ts', import.meta.url)),
    },
  },
  test: { include: ['test/**/*.test.ts'] },
});
