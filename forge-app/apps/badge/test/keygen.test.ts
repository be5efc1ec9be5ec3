import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { expect, it } from 'vitest';

import { readConfig } from '../src/config';
import { signingKey } from '../../../packages/verifier/test/signing';

const { stdout } = spawnSync(process.execPath, [fileURLToPath(new URL('../scripts/keygen.mjs', import.meta.url))], { encoding: 'utf8', env: {} });

it('npm run keygen prints a pair that both sides accept', () => {
  const privateJwk = /HANDOFF_PRIVATE_KEY '(.+)'/.exec(stdout)?.[1];
  const publicJwks = JSON.parse(/^\{"keys":.+$/m.exec(stdout)?.[0] ?? '{}') as { keys: Record<string, string>[] };
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

it('npm run keygen installs the public half where later deployments find it', () => {
  expect(stdout).toMatch(/^sam build && sam deploy --guided$/m);
  expect(stdout).not.toContain('--parameter-overrides');
});

it('npm run keygen comes first: before the backend and the app, whose commands follow in their order', () => {
  const commands = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  expect(commands.map((command) => command.replace(/[ :'].*/, ''))).toEqual(['sam', '{"keys"', 'forge', 'forge']);
  expect(stdout).not.toMatch(/https?:/);
});
