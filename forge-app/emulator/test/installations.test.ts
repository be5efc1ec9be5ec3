/** The program that hosts many installations: each judges callbacks by its own keys and keeps its own store. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { afterAll, beforeAll, expect, it } from 'vitest';

import { compactJws, sha256, signingKey } from '../../packages/verifier/test/signing';
import { tenantId } from '../../packages/verifier/src/index';
import { listening } from './support/emulator-process';

const PROGRAM = fileURLToPath(new URL('../dist/installations.mjs', import.meta.url));
const BACKEND_URL = 'http://127.0.0.1:1';
const SERVICE = 'aaaabbbbccccdddd';

interface Installation {
  readonly cloudId: string;
  readonly triggerId: string;
  readonly key: ReturnType<typeof signingKey>;
}

const [first, second]: readonly [Installation, Installation] = [newInstallation('first'), newInstallation('second')];
let url: string;
let program: ChildProcess;

function newInstallation(triggerId: string): Installation {
  return { cloudId: randomUUID(), triggerId, key: signingKey() };
}

beforeAll(async () => {
  const probe = createServer();
  url = await listening(probe);
  await new Promise((closed) => probe.close(closed));
  const environment = { ...process.env, BACKEND_URL, BACKEND_PUBLIC_KEY: JSON.stringify({ keys: [signingKey().jwk] }), PORT: new URL(url).port };
  program = spawn(process.execPath, [PROGRAM], { env: environment, stdio: ['ignore', 'inherit', 'ignore'] });
  while (!(await fetch(url).then(() => true, () => false))) await pause(20);
  const seeds = [first, second].map(({ cloudId, triggerId, key }) => ({ cloudId, triggerId, x: key.jwk.x }));
  expect((await fetch(`${url}/installations`, { method: 'POST', body: JSON.stringify(seeds) })).status).toBe(204);
});

afterAll(() => {
  program.kill();
});

function idOf({ cloudId, triggerId }: Installation): string {
  return tenantId(cloudId, `${url}/x1/${triggerId}`);
}

/** An UPDATE of one tenant, signed with `key`. */
async function update(of: Installation, key = of.key): Promise<number> {
  const now = Math.floor(Date.now() / 1000);
  const tick = `${new Date((now - (now % 60)) * 1000).toISOString().slice(0, 19)}Z`;
  const services = [{ id: SERVICE, name: of.triggerId, url: 'https://shop.example/', status: 'DOWN', since: tick, addedBy: 'p-1' }];
  const transitions = [{ tick, serviceId: SERVICE, from: 'ALIVE', to: 'DOWN', at: tick, reason: 'timeout' }];
  const body = JSON.stringify({ version: 1, action: 'UPDATE', cloudId: of.cloudId, tenantId: idOf(of), sentAt: tick, tick, nextUpdateBy: `${new Date((now + 120) * 1000).toISOString().slice(0, 19)}Z`, periodS: 60, services, transitions, transitionsDropped: 0 });
  const claims = { iss: BACKEND_URL, aud: of.cloudId, sub: idOf(of), iat: now, exp: now + 300, jti: 'x', scope: 'health:update', body_sha256: sha256(body) };
  const token = compactJws({ alg: 'EdDSA', typ: 'forge-callback+jwt', kid: key.kid }, claims, key);
  return (await fetch(`${url}/x1/${of.triggerId}`, { method: 'POST', headers: { authorization: `Bearer ${token}` }, body })).status;
}

it('judges each callback by the keys of its own installation, and stores each report apart', async () => {
  expect(await update(first)).toBe(202);
  expect(await update(second, first.key)).toBe(401);
  const { calls, stored } = (await (await fetch(`${url}/received.json`)).json()) as {
    calls: { tenantId: string; code: string }[];
    stored: { tenantId: string; statuses: unknown[]; transitions: unknown[] }[];
  };
  expect(calls.map(({ tenantId, code }) => [tenantId, code])).toEqual([[idOf(first), 'ACCEPTED'], [idOf(second), 'UNAUTHORIZED']]);
  expect(stored.map(({ tenantId, statuses, transitions }) => [tenantId, statuses, transitions.length])).toEqual([
    [idOf(first), [[SERVICE, 'DOWN', false, null]], 1],
    [idOf(second), [], 0],
  ]);
});

it('lists every call once, and has no other trigger', async () => {
  const { calls } = (await (await fetch(`${url}/received.json`)).json()) as { calls: unknown[] };
  expect(calls).toEqual([]);
  expect((await fetch(`${url}/x1/third`, { method: 'POST' })).status).toBe(404);
});
