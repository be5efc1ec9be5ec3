import { createServer, request as httpRequest, type Server } from 'node:http';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { compactJws, sha256, signingKey } from '../../packages/verifier/test/signing';
import { tenantId } from '../../packages/verifier/src/index';
import { listening, EmulatorProcess } from './support/emulator-process';

/** The program, with a server beside it that has a deployment key and nothing else. */
const deployment = signingKey();
const tenant = signingKey();
let backend: Server;
let backendUrl: string;
let emulator: EmulatorProcess;
let handoff: string;

beforeAll(async () => {
  backend = createServer((_, response) => response.end(JSON.stringify({ keys: [deployment.jwk] })));
  backendUrl = await listening(backend);
  emulator = new EmulatorProcess(backendUrl);
  await emulator.start();
  handoff = await getHandoff();
});

afterAll(async () => {
  await emulator.stop();
  emulator.remove();
  backend.close();
});

async function getHandoff(accountId?: string): Promise<string> {
  const query = accountId === undefined ? '' : `?accountId=${accountId}`;
  const link = (await (await fetch(`${emulator.url}/handoff.json${query}`)).json()) as { handoff: string };
  expect(Object.keys(link)).toEqual(['handoff']);
  return link.handoff;
}

/** The decoded header (0) or claims (1) of a hand-off. */
const part = (at: number, of = handoff) => JSON.parse(Buffer.from(of.split('.')[at] ?? '', 'base64url').toString()) as Record<string, string>;
const claims = (name: string) => part(1)[name] ?? '';

function send(action: 'REGISTER' | 'UPDATE', fields: object): Promise<Response> {
  const [cloudId, triggerUrl] = [claims('cloudId'), claims('triggerUrl')];
  const own = tenantId(cloudId, triggerUrl);
  const now = Math.floor(Date.now() / 1000);
  const body = JSON.stringify({ version: 1, action, cloudId, tenantId: own, ...fields });
  const tokenClaims = { iss: backendUrl, aud: cloudId, sub: own, iat: now, exp: now + 300, jti: 'x', scope: `health:${action.toLowerCase()}`, body_sha256: sha256(body) };
  const key = action === 'REGISTER' ? deployment : tenant;
  const token = compactJws({ alg: 'EdDSA', typ: 'forge-callback+jwt', kid: key.kid }, tokenClaims, key);
  return fetch(triggerUrl, { method: 'POST', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, body });
}

function service(owner: string) {
  return { id: 'aaaabbbbccccdddd', name: '<b>Shop</b>', url: 'https://shop.example/', status: 'ALIVE', owner, addedBy: owner };
}

const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(emulator.url + path, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
const log = async () => (await (await fetch(`${emulator.url}/log.json`)).json()) as { services: { name: string }[]; callbacks: { code: string; status: number; action: string; fault: boolean }[] };

describe('the emulator', () => {
  it('prints the public key that signs its hand-offs', () => {
    const { keys } = JSON.parse(emulator.publicKeys()) as { keys: Record<string, string>[] };
    expect(keys).toHaveLength(1);
    expect(keys[0]).not.toHaveProperty('d');
    expect(part(0)['kid']).toBe(keys[0]?.['kid']);
  });

  it('signs hand-offs with the app\'s own resolver', async () => {
    expect(part(1)).toMatchObject({ aud: backendUrl, purpose: 'register', callbackUrl: `${emulator.url}/health-monitor/` });
    const response = await fetch(`${emulator.url}/add-service`, { redirect: 'manual' });
    expect(response.status).toBe(302);
    const location = new URL(response.headers.get('location') ?? '');
    expect([location.origin + location.pathname, ...location.searchParams.keys()]).toEqual([`${backendUrl}/register`, 'handoff']);
    expect(part(1, await getHandoff('bob'))['accountId']).not.toBe(claims('accountId'));
  });

  it('runs the real web trigger and sends its static outputs', async () => {
    const refused = await fetch(claims('triggerUrl'), { method: 'POST', body: '{}' });
    expect([refused.status, await refused.json()]).toEqual([401, { code: 'UNAUTHORIZED' }]);

    const accepted = await send('REGISTER', { periodS: 60, jwk: tenant.jwk, handoff, service: service(claims('accountId')) });
    expect([accepted.status, accepted.headers.get('content-type'), await accepted.json()]).toEqual([202, 'application/json', { code: 'ACCEPTED' }]);
    expect(await log()).toMatchObject({ services: [{ name: '<b>Shop</b>' }], callbacks: [{ action: 'REGISTER', code: 'ACCEPTED' }, { code: 'UNAUTHORIZED' }] });
    const page = await (await fetch(`${emulator.url}/`)).text();
    expect(page).toContain('&#60;b&#62;Shop');
    expect(page).not.toContain('<b>Shop');
  });

  it('keeps keys, storage and log over a restart', async () => {
    expect(await emulator.stop()).toBe(0);
    await emulator.start();
    const before = part(1);
    handoff = await getHandoff();
    for (const name of ['cloudId', 'triggerUrl', 'accountId']) expect(claims(name)).toBe(before[name]);
    const minute = (after: number) => new Date((Math.floor(Date.now() / 60_000) + after) * 60_000).toISOString().replace('.000', '');
    const accepted = await send('UPDATE', { tick: minute(0), nextUpdateBy: minute(2), periodS: 60, services: [service(claims('accountId'))], transitions: [] });
    expect(await accepted.json()).toEqual({ code: 'ACCEPTED' });
    expect((await log()).callbacks).toHaveLength(3);
  });

  it('shows the app\'s page, with the bridge that the page needs', async () => {
    const page = await (await fetch(`${emulator.url}/health-monitor/`)).text();
    expect(page).toContain('<script src="/bridge.js"></script>');
    for (const file of ['/bridge.js', '/health-monitor/page.js', '/health-monitor/page.css']) expect((await fetch(emulator.url + file)).status).toBe(200);
    const data = (await (await post('/platform/invoke', { functionKey: 'readPage' })).json()) as { configured: boolean };
    expect(data).toMatchObject({ configured: true, overview: { periodS: 60 }, own: ['aaaabbbbccccdddd'] });
    expect(await (await post('/platform/invoke', { functionKey: 'readOwners' })).json()).toEqual({ [claims('accountId')]: expect.stringMatching(/^712020:/) as string });
  });

  it('replaces the app\'s response as often as requested', async () => {
    expect((await post('/faults', { response: 'RETRY', times: 1, retryAfter: 7 })).status).toBe(200);
    const retry = await send('UPDATE', {});
    expect([retry.status, retry.headers.get('retry-after'), await retry.json()]).toEqual([503, '7', { code: 'RETRY' }]);
    expect((await send('UPDATE', {})).status).toBe(400);

    await post('/faults', { response: 'http500', times: 1 });
    const broken = await send('UPDATE', {});
    expect([broken.status, broken.headers.get('content-type')]).toEqual([500, 'text/plain']);
    expect((await log()).callbacks.slice(0, 3)).toMatchObject([{ code: 'http500', fault: true }, { code: 'BAD_REQUEST', fault: false }, { code: 'RETRY', fault: true }]);

    await post('/faults', { response: 'hang' });
    await expect(fetch(claims('triggerUrl'), { method: 'POST', body: '{}', signal: AbortSignal.timeout(300) })).rejects.toThrow();
    expect((await post('/faults', { response: null })).status).toBe(200);
    expect((await send('UPDATE', {})).status).toBe(400);
    expect((await post('/faults', { response: 'TEAPOT' })).status).toBe(400);
  });

  it('is not reachable under another name or from another site\'s page', async () => {
    const status = await new Promise((resolve) => {
      httpRequest(`${emulator.url}/handoff.json`, { headers: { host: 'attacker.example' } }, (response) => resolve(response.resume().statusCode)).end();
    });
    expect(status).toBe(421);
    expect((await post('/faults', { response: 'hang' }, { 'sec-fetch-site': 'cross-site' })).status).toBe(403);
  });
});
