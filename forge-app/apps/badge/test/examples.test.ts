import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { install } from '../../../emulator/src/platform/installation';
import { pullReport, readToken } from '../examples/pull/outside-service';
import { report } from '../examples/pull/web-trigger';
import { CALLBACK_TRIGGER } from '../src/installation';
import { signingKey } from '../../../packages/verifier/test/signing';
import { Backend } from './support/backend';
import { Site } from './support/site';

const READER_URL = 'https://wallboard.example';
const reader = signingKey();
const privateJwk = reader.privateKey.export({ format: 'jwk' });
let site: Site;
let server: Server;
let triggerUrl: string;

/** The example's two halves, with real HTTP between them. */
beforeEach(async () => {
  vi.spyOn(console, 'warn').mockReturnValue();
  const backend = new Backend();
  site = new Site();
  site.now = new Date();
  site.enter(backend);
  expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');

  server = createServer((request, response) => {
    const headers = Object.fromEntries(Object.entries(request.headersDistinct).map(([name, values]) => [name, values ?? []]));
    void report({ headers, body: '' }, { installContext: `ari:cloud:jira::site/${site.cloudId}` }).then(({ statusCode, body }) => response.writeHead(statusCode).end(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  triggerUrl = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/x1/report`;
  install({ cloudId: site.cloudId, appId: site.app.id, triggerUrls: { report: triggerUrl, [CALLBACK_TRIGGER]: site.triggerUrl } });
  process.env['READER_URL'] = READER_URL;
  process.env['READER_PUBLIC_KEY'] = JSON.stringify(reader.jwk);
});

afterEach(() => {
  server.close();
});

describe('the example of an outside service that pulls', () => {
  it('reads the report', async () => {
    expect(await pullReport({ cloudId: site.cloudId, triggerUrl }, READER_URL, privateJwk)).toMatchObject({ services: [{ name: 'Shop', status: 'ALIVE' }] });
  });

  it.each<[string, () => Promise<unknown>]>([
    ['with another key', () => pullReport({ cloudId: site.cloudId, triggerUrl }, READER_URL, signingKey().privateKey.export({ format: 'jwk' }))],
    ['in another name', () => pullReport({ cloudId: site.cloudId, triggerUrl }, 'https://other.example', privateJwk)],
    ['with a token for another installation', async () => ask(await readToken({ cloudId: new Site().cloudId, triggerUrl }, READER_URL, privateJwk))],
    ['with a token for another trigger', async () => ask(await readToken({ cloudId: site.cloudId, triggerUrl: site.triggerUrl }, READER_URL, privateJwk))],
    ['without a token', () => ask('')],
  ])('is refused %s', async (_, pull) => {
    await expect(pull()).rejects.toThrow('401');
  });

  it('is refused while the app has no key for it', async () => {
    Reflect.deleteProperty(process.env, 'READER_PUBLIC_KEY');
    await expect(pullReport({ cloudId: site.cloudId, triggerUrl }, READER_URL, privateJwk)).rejects.toThrow('401');
  });

  async function ask(token: string): Promise<void> {
    const response = await fetch(triggerUrl, { headers: { authorization: `Bearer ${token}` } });
    if (!response.ok) throw new Error(String(response.status));
  }
});
