/** The hand-offs of testdata/callback/vectors.json, which the Rust tests read as well. */
import { readFileSync } from 'node:fs';

import type { Ed25519PublicJwk } from 'forge-callback-verifier';
import { expect, it } from 'vitest';

import { verifyHandoff } from '../src/handoff';

interface Vectors {
  handoffs: {
    app: string;
    backendUrl: string;
    cloudId: string;
    triggerUrl: string;
    key: Ed25519PublicJwk;
    cases: { name: string; at: number; app: boolean; token: string }[];
  };
}

const { handoffs } = JSON.parse(readFileSync(new URL('../../../../testdata/callback/vectors.json', import.meta.url), 'utf8')) as Vectors;

it.each(handoffs.cases)('a hand-off $name: the app accepts it as its own: $app', async ({ token, at, app }) => {
  const claims = await verifyHandoff(token, { ...handoffs, registeredAt: at });
  expect(claims !== undefined).toBe(app);
});
