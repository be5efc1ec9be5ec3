/**
 * Many installations of the companion app in one process, each on its own site: `make bench` and `make load` send their
 * callbacks here. It has no pages, no registrations, and stores nothing on disk.
 *
 *     node dist/installations.mjs
 *
 * Environment: BACKEND_URL, BACKEND_PUBLIC_KEY (a JWKS) and PORT. Binds 127.0.0.1 only.
 *
 * | request | what it does |
 * |---|---|
 * | `POST /installations` | `[{cloudId, triggerId, x}]`: each as after a REGISTER that brought the tenant key `x` |
 * | `POST /x1/<triggerId>` | that installation's web trigger |
 * | `GET /received.json` | the calls since the last such request, and the report that every installation has stored |
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

import { tenantId } from 'forge-callback-verifier';

import { CALLBACK_TRIGGER } from '../../apps/badge/src/installation';
import { changeTrust, readReport, readTrust } from '../../apps/badge/src/store';
import { Faults } from './faults';
import { parseObject } from './json';
import { type Installation, within } from './platform/installation';
import { newPrivateJwk } from './state';
import { readBody, serveTrigger } from './trigger';

const MAX_LIST_BYTES = 64 * 1024 * 1024;

interface Seed {
  readonly cloudId: string;
  readonly triggerId: string;
  /** The tenant's public key: base64url of 32 bytes. */
  readonly x: string;
}

/** One call of a web trigger. */
interface Call {
  readonly tenantId: string;
  /** When the request's head arrived, milliseconds since 1970. */
  readonly at: number;
  readonly tick: unknown;
  /** The app's response. */
  readonly code: string;
  readonly bytes: number;
}

interface Hosted {
  readonly installation: Installation;
  readonly tenantId: string;
}

const port = Number(process.env['PORT']);
const origin = `http://127.0.0.1:${String(port)}`;
const appId = randomUUID();
const faults = new Faults();
const hosted = new Map<string, Hosted>();
let calls: Call[] = [];

async function addInstallations(seeds: readonly Seed[]): Promise<void> {
  for (const { cloudId, triggerId, x } of seeds) {
    const triggerUrl = `${origin}/x1/${triggerId}`;
    const installation = { cloudId, appId, triggerUrls: { [CALLBACK_TRIGGER]: triggerUrl } };
    const id = tenantId(cloudId, triggerUrl);
    hosted.set(triggerId, { installation, tenantId: id });
    const keys = [{ jwk: { kty: 'OKP', crv: 'Ed25519', x } as const }];
    const trust = { tenantId: id, keys, handoff: { jti: '0', iat: 0 }, registered: [] };
    await within(installation, async () => changeTrust(await readTrust(), () => trust));
  }
}

async function received(): Promise<unknown> {
  const stored = [];
  for (const { installation, tenantId } of hosted.values()) {
    const report = await within(installation, readReport);
    const { tick, services = [], transitions = [] } = report ?? {};
    stored.push({
      tenantId,
      tick,
      statuses: services.map(({ id, status, suppressed, check }) => [id, status, suppressed, check?.checkedAt]),
      transitions: transitions.map((t) => [t.tick, t.serviceId, t.from, t.to]),
    });
  }
  const taken = calls;
  calls = [];
  return { calls: taken, stored };
}

async function trigger({ installation, tenantId }: Hosted, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const at = Date.now();
  const log = {
    add: (body: string, { code }: { code: string }) => {
      calls.push({ tenantId, at, tick: parseObject(body)?.['tick'], code, bytes: Buffer.byteLength(body) });
    },
  };
  await within(installation, () => serveTrigger(request, response, faults, log));
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = request.url ?? '/';
  const target = path.startsWith('/x1/') ? hosted.get(path.slice('/x1/'.length)) : undefined;
  if (request.method === 'POST' && target !== undefined) return trigger(target, request, response);
  if (request.method === 'POST' && path === '/installations') {
    await addInstallations(JSON.parse((await readBody(request, MAX_LIST_BYTES)) ?? '') as Seed[]);
    response.writeHead(204).end();
    return;
  }
  if (request.method === 'GET' && path === '/received.json') {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(await received()));
    return;
  }
  response.writeHead(404).end();
}

process.env['HANDOFF_PRIVATE_KEY'] = JSON.stringify(newPrivateJwk());
const server = createServer((request, response) => {
  serve(request, response).catch((error: unknown) => {
    console.error(`installations: ${String(error)}`);
    if (!response.headersSent) response.writeHead(500);
    response.end();
  });
});
server.listen(port, '127.0.0.1');
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    server.close();
    server.closeAllConnections();
  });
}
