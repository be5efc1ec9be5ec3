import { createPublicKey, verify } from 'node:crypto';

import { decodeJwt } from 'jose';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { installed, preUninstall, resolve } from '../src/index';
import type { LinkResult } from '../src/page-data';
import { invocationContext } from '../../../emulator/src/platform/installation';
import { signingKey } from '../../../packages/verifier/test/signing';
import { Backend, BACKEND_URL, service } from './support/backend';
import { kvs, Site } from './support/site';

const SITE_URL = 'https://acme.atlassian.net';
const PAGE_URL = `${SITE_URL}/jira/apps/1/2`;
let backend: Backend;
let site: Site;

beforeEach(() => {
  vi.spyOn(console, 'warn').mockReturnValue();
  backend = new Backend();
  site = new Site();
  site.now = new Date();
  site.enter(backend);
});

/** Calls the resolver as Forge does: the page's data and the platform's are separate. */
function call(functionKey: string, payload: object = {}, { accountId = 'account-of-alice', context = {} }: { accountId?: string; context?: object } = {}) {
  return resolve({ call: { functionKey, payload }, context: { siteUrl: SITE_URL, ...context } }, { ...invocationContext(site.cloudId), principal: { accountId } });
}

async function link(returnUrl: unknown = PAGE_URL, options = {}): Promise<URL> {
  const result = (await call('addService', { returnUrl }, options)) as LinkResult;
  if (!result.ok) throw new Error(result.problem);
  return new URL(result.url);
}

/** The claims of the hand-off in a link, its only parameter. */
function claimsIn(url: URL): Record<string, unknown> {
  expect([...url.searchParams.keys()]).toEqual(['handoff']);
  return decodeJwt(handoffIn(url));
}

function handoffIn(url: URL): string {
  return url.searchParams.get('handoff') ?? '';
}

const ownerIn = (url: URL) => claimsIn(url)['accountId'];

function expectNoReturnUrl(result: LinkResult): URL {
  if (!result.ok) throw new Error(result.problem);
  const url = new URL(result.url);
  expect(claimsIn(url)).not.toHaveProperty('callbackUrl');
  return url;
}

describe('adding a service', () => {
  it('leads to the registration page with a hand-off that the backend can verify', async () => {
    const url = await link();
    expect(url.href.startsWith(`${BACKEND_URL}/register?`)).toBe(true);
    const handoff = url.searchParams.get('handoff') ?? '';
    const [head, claims, signature] = handoff.split('.');
    const key = createPublicKey({ key: { ...site.app.key.jwk }, format: 'jwk' });
    expect(verify(null, Buffer.from(`${head ?? ''}.${claims ?? ''}`), key, Buffer.from(signature ?? '', 'base64url'))).toBe(true);
    expect(JSON.parse(Buffer.from(head ?? '', 'base64url').toString())).toEqual({ alg: 'EdDSA', typ: 'forge-handoff+jwt', kid: site.app.key.kid });
    expect(claimsIn(url)).toMatchObject({
      iss: `ari:cloud:ecosystem::app/${site.app.id}`, aud: BACKEND_URL, purpose: 'register',
      cloudId: site.cloudId, triggerUrl: site.triggerUrl, callbackUrl: PAGE_URL, accountId: expect.stringMatching(/^[A-Za-z0-9_-]{32}$/) as string,
    });
    const { iat = 0, exp = 0, jti = '' } = decodeJwt(handoff);
    expect(exp - iat).toBe(600);
    expect(jti).toMatch(/^[0-9a-f]{32}$/);
  });

  it('gives the backend a pseudonym, stable here and different on every other site', async () => {
    const first = ownerIn(await link());
    expect(ownerIn(await link())).toBe(first);
    expect(ownerIn(await link(PAGE_URL, { accountId: 'account-of-bob' }))).not.toBe(first);
    site = new Site(site.app);
    site.enter(backend);
    expect(ownerIn(await link())).not.toBe(first);
  });

  it('by two people at once on a new installation creates one secret', async () => {
    const both = await Promise.all([link(), link(PAGE_URL, { accountId: 'account-of-bob' })]);
    expect(ownerIn(await link())).toBe(ownerIn(both[0]));
  });

  it('takes account and site from the platform, whatever the page says', async () => {
    const url = await link(PAGE_URL, { context: { accountId: 'account-of-mallory', cloudId: '00000000-0000-4000-8000-000000000000', installContext: 'ari:cloud:jira::site/x' } });
    expect(claimsIn(url)).toMatchObject({ cloudId: site.cloudId, accountId: ownerIn(await link()) });
  });

  it('ends with the owner\'s account beside the service', async () => {
    const url = await link();
    const owner = ownerIn(url);
    const registration = backend.register(site, handoffIn(url), { body: { service: service({ owner }) } });
    expect(await site.receive(registration)).toBe('ACCEPTED');
    expect(await call('readPage')).toMatchObject({ overview: { services: [{ addedBy: owner }] }, own: ['aaaabbbbccccdddd'] });
    expect(await call('readOwners')).toEqual({ [String(owner)]: 'account-of-alice' });
  });

  it('is refused without an account', async () => {
    const anonymous = resolve({ call: { functionKey: 'addService', payload: { returnUrl: PAGE_URL } }, context: { siteUrl: SITE_URL, accountId: 'said-by-the-page' } }, {
      installContext: `ari:cloud:jira::site/${site.cloudId}`,
    });
    expect(await anonymous).toEqual({ ok: false, problem: 'no-account' });
  });

  it.each([
    ['elsewhere', 'https://attacker.example/jira'],
    ['another site of Atlassian', 'https://mallory.atlassian.net/jira'],
    ['a host that begins alike', 'https://acme.atlassian.net.attacker.example/'],
    ['a user name that looks like the host', 'https://acme.atlassian.net@attacker.example/'],
    ['this host with credentials', 'https://user:password@acme.atlassian.net/'],
    ['another port', 'https://acme.atlassian.net:8443/'],
    ['plain http', 'http://acme.atlassian.net/'],
    ['a script', 'javascript:alert(1)//acme.atlassian.net'],
    ['no URL', 'jira'],
    ['nothing', undefined],
    ['a list', [PAGE_URL]],
  ])('signs no return URL when the page proposes %s', async (_, returnUrl) => {
    expectNoReturnUrl((await call('addService', { returnUrl })) as LinkResult);
  });

  it('signs any return URL on the site that the page names: only the backend decides what it links to', async () => {
    const elsewhere = 'https://attacker.example';
    expect(claimsIn(await link(`${elsewhere}/jira`, { context: { siteUrl: elsewhere } }))['callbackUrl']).toBe(`${elsewhere}/jira`);
    expectNoReturnUrl((await call('addService', { returnUrl: PAGE_URL }, { context: { siteUrl: elsewhere } })) as LinkResult);
  });

  it.each([['no'], ['another kind of', 7], ['an empty', '']])('works when there is %s site URL, without a return URL', async (_, siteUrl?: unknown) => {
    const result = (await call('addService', { returnUrl: PAGE_URL }, { context: { siteUrl } })) as LinkResult;
    const url = expectNoReturnUrl(result);
    const registration = backend.register(site, handoffIn(url), { body: { service: service({ owner: ownerIn(url) }) } });
    expect(await site.receive(registration)).toBe('ACCEPTED');
  });

  it('is refused while the app is not configured', async () => {
    process.env['BACKEND_URL'] = 'http://backend.example';
    expect(await call('addService', { returnUrl: PAGE_URL })).toEqual({ ok: false, problem: 'not-configured' });
  });
});

describe('changing a service', () => {
  /** A service that Alice has added. */
  async function added(fields: Record<string, unknown> = {}): Promise<void> {
    const url = await link();
    const body = { service: service({ owner: ownerIn(url), ...fields }) };
    expect(await site.receive(backend.register(site, handoffIn(url), { body }))).toBe('ACCEPTED');
  }

  const ask = (payload: object, options = {}) => call('manageService', { returnUrl: PAGE_URL, serviceId: 'aaaabbbbccccdddd', ...payload }, options) as Promise<LinkResult>;

  it.each(['remove', 'pause', 'resume'])('to %s it leads to the page with a hand-off that names service and change', async (change) => {
    await added();
    const result = await ask({ change });
    if (!result.ok) throw new Error(result.problem);
    const url = new URL(result.url);
    expect(url.href.startsWith(`${BACKEND_URL}/manage?`)).toBe(true);
    expect([...url.searchParams.keys()]).toEqual(['handoff']);
    const handoff = url.searchParams.get('handoff') ?? '';
    const [head, claims, signature] = handoff.split('.');
    const key = createPublicKey({ key: { ...site.app.key.jwk }, format: 'jwk' });
    expect(verify(null, Buffer.from(`${head ?? ''}.${claims ?? ''}`), key, Buffer.from(signature ?? '', 'base64url'))).toBe(true);
    expect(decodeJwt(handoff)).toEqual({
      iss: `ari:cloud:ecosystem::app/${site.app.id}`, aud: BACKEND_URL, purpose: 'manage', change,
      iat: expect.any(Number) as number, exp: expect.any(Number) as number, jti: expect.stringMatching(/^[0-9a-f]{32}$/) as string,
      cloudId: site.cloudId, triggerUrl: site.triggerUrl, callbackUrl: PAGE_URL, accountId: ownerIn(await link()),
      serviceId: 'aaaabbbbccccdddd', serviceName: 'Shop', serviceUrl: 'https://shop.example/health',
    });
  });

  it('cannot be done with a hand-off to register, nor the other way round', async () => {
    await added();
    const result = await ask({ change: 'remove' });
    const handoff = new URL(result.ok ? result.url : '').searchParams.get('handoff') ?? '';
    const owner = decodeJwt(handoff)['accountId'];
    expect(await site.receive(backend.register(site, handoff, { body: { service: service({ owner }) } }))).toBe('HANDOFF_INVALID');
  });

  it('takes name and URL from the report, whatever the page says', async () => {
    await added();
    const result = await ask({ change: 'remove', serviceName: 'Another', serviceUrl: 'https://attacker.example/', accountId: 'x', purpose: 'register', cloudId: 'x' });
    const claims = decodeJwt(new URL(result.ok ? result.url : '').searchParams.get('handoff') ?? '');
    expect(claims).toMatchObject({ serviceName: 'Shop', serviceUrl: 'https://shop.example/health', purpose: 'manage', cloudId: site.cloudId });
  });

  it('is only for the person who added it', async () => {
    await added();
    expect(await ask({ change: 'remove' }, { accountId: 'account-of-bob' })).toEqual({ ok: false, problem: 'not-yours' });
    expect(await ask({ change: 'remove' }, { accountId: 'account-of-bob', context: { accountId: 'account-of-alice' } })).toEqual({ ok: false, problem: 'not-yours' });
    const anonymous = resolve({ call: { functionKey: 'manageService', payload: { serviceId: 'aaaabbbbccccdddd', change: 'remove' } }, context: { accountId: 'account-of-alice' } }, {
      installContext: `ari:cloud:jira::site/${site.cloudId}`,
    });
    expect(await anonymous).toEqual({ ok: false, problem: 'no-account' });
    expect(await call('readPage')).toMatchObject({ own: ['aaaabbbbccccdddd'] });
    expect(await call('readPage', {}, { accountId: 'account-of-bob' })).toMatchObject({ own: [] });
  });

  it('is refused when the pseudonym belongs to a lost secret', async () => {
    await added({ addedBy: 'pseudonym-of-before-the-reinstallation' });
    expect(await ask({ change: 'remove' })).toEqual({ ok: false, problem: 'not-yours' });
    expect(await call('readPage')).toMatchObject({ own: [] });
    expect(await call('readOwners')).toEqual({});
  });

  it('writes no mapping to an account', async () => {
    await added();
    kvs.operations.length = 0;
    expect(await ask({ change: 'remove' })).toMatchObject({ ok: true });
    expect(kvs.operations.filter(({ kind }) => kind !== 'get')).toEqual([]);
  });

  it.each<[string, object]>([
    ['a service that is not there', { change: 'remove', serviceId: 'eeeeffffgggghhhh' }],
    ['no service', { change: 'remove', serviceId: undefined }],
    ['no change', { change: undefined }],
    ['an unknown change', { change: 'destroy' }],
    ['a change that is a list', { change: ['remove'] }],
  ])('is refused for %s', async (_, payload) => {
    await added();
    expect(await ask(payload)).toEqual({ ok: false, problem: 'no-service' });
  });

  it('is refused while the app is not configured', async () => {
    await added();
    process.env['BACKEND_URL'] = 'http://backend.example';
    expect(await ask({ change: 'remove' })).toEqual({ ok: false, problem: 'not-configured' });
  });

  it('signs no return URL elsewhere', async () => {
    await added();
    const result = await ask({ change: 'remove', returnUrl: 'https://attacker.example/jira' });
    expect(decodeJwt(new URL(result.ok ? result.url : '').searchParams.get('handoff') ?? '')).not.toHaveProperty('callbackUrl');
  });
});

describe('reading the page', () => {
  it('names the variables that cannot be used, and never their values', async () => {
    process.env['BACKEND_URL'] = 'http://backend.example';
    Reflect.deleteProperty(process.env, 'BACKEND_PUBLIC_KEY');
    expect(await call('readPage')).toEqual({ configured: false, unusable: ['BACKEND_URL', 'BACKEND_PUBLIC_KEY'] });
  });

  it('is empty at first, and knows the period from the first registration on', async () => {
    const page = (await call('readPage')) as object;
    expect(page).toMatchObject({ configured: true, overview: { services: [] } });
    expect(page).not.toHaveProperty('overview.periodS');
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect(await call('readPage')).toMatchObject({ overview: { periodS: 300 } });
  });

  it('carries no key and no secret', async () => {
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    const data = JSON.stringify((await call('readPage')));
    const secret = await kvs.getSecret<string>('owner-secret');
    for (const hidden of [backend.tenantKey.jwk.x, site.triggerUrl, process.env['HANDOFF_PRIVATE_KEY'] ?? '?', secret ?? '?']) expect(data).not.toContain(hidden);
  });

  it('has no other functions', async () => {
    await expect(call('forget')).rejects.toThrow("no definition for 'forget'");
  });
});

describe('an installation', () => {
  it('begins with a secret, and a log line when variables are missing', async () => {
    process.env['HANDOFF_PRIVATE_KEY'] = JSON.stringify(signingKey().jwk);
    await installed();
    expect(await kvs.getSecret('owner-secret')).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(console.warn).toHaveBeenCalledWith('not configured yet; unusable variables: HANDOFF_PRIVATE_KEY');
    const secret = await kvs.getSecret('owner-secret');
    await installed();
    expect(await kvs.getSecret('owner-secret')).toBe(secret);
  });

  it('ends with no trusted key', async () => {
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    await preUninstall();
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z'))).toBe('UNREGISTERED');
  });
});
