import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { expect, it } from 'vitest';

import { readConfig } from '../src/config';
import { signingKey } from '../verifier/test/signing';

it('npm run keygen prints a pair that both sides take', () => {
  const { stdout } = spawnSync(process.execPath, [fileURLToPath(new URL('../scripts/keygen.mjs', import.meta.url))], { encoding: 'utf8' });
  const privateJwk = /HANDOFF_PRIVATE_KEY '(.+)'/.exec(stdout)?.[1];
  const publicJwks = JSON.parse(/ForgeAppPublicKey: '(.+)'/.exec(stdout)?.[1] ?? '{}') as { keys: Record<string, string>[] };
  const read = readConfig({
    BACKEND_URL: 'https://backend.example',
    BACKEND_PUBLIC_KEY: JSON.stringify({ keys: [signingKey().jwk] }),
    HANDOFF_PRIVATE_KEY: privateJwk,
  });
  if (!read.ok) throw new Error(read.unusable.join());
  expect(publicJwks.keys).toHaveLength(1);
  expect(publicJwks.keys[0]).toMatchObject({ x: read.config.handoffKey.x, alg: 'EdDSA' });
  expect(publicJwks.keys[0]).not.toHaveProperty('d');
});
