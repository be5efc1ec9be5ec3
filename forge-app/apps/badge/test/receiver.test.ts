import { describe, expect, it, vi } from 'vitest';

import { signingKey } from '../../../packages/verifier/test/signing';
import { backend, freshInstallation, registered, site } from './support/installation';
import { kvs, newApp } from './support/site';

freshInstallation();

describe('configuration', () => {
  it.each([
    ['BACKEND_URL', undefined],
    ['BACKEND_URL', 'http://backend.example'],
    ['BACKEND_PUBLIC_KEY', undefined],
    ['BACKEND_PUBLIC_KEY', '{"keys":[]}'],
    ['BACKEND_PUBLIC_KEY', '{"keys":[{"kty":"RSA"}]}'],
    ['BACKEND_PUBLIC_KEY', 'not JSON'],
    ['HANDOFF_PRIVATE_KEY', undefined],
    ['HANDOFF_PRIVATE_KEY', JSON.stringify(signingKey().jwk)],
    ['HANDOFF_PRIVATE_KEY', JSON.stringify({ ...signingKey().jwk, d: signingKey().privateKey.export({ format: 'jwk' }).d })],
  ])('%s = %s gets NOT_CONFIGURED', async (name, value) => {
    if (value === undefined) Reflect.deleteProperty(process.env, name);
    else process.env[name] = value;
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z'))).toBe('NOT_CONFIGURED');
    expect(kvs.operations).toEqual([]);
  });

  it('may pin two deployment keys while one follows the other', async () => {
    const previous = backend.deploymentKey;
    backend.deploymentKey = signingKey();
    process.env['BACKEND_PUBLIC_KEY'] = JSON.stringify({ keys: [previous.jwk, backend.deploymentKey.jwk] });
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    site.wait(1);
    expect(await site.receive(backend.register(site, await site.handoff(), { key: previous }))).toBe('ACCEPTED');
  });
});

it('reads nothing from the store for a request that no key could authenticate', async () => {
  await registered();
  const { headers, body } = backend.update(site, '2026-11-22T10:05:00Z', { sentBody: '{}' });
  expect(await site.receive({ headers, body })).toBe('UNAUTHORIZED');
  expect(await site.receive({ headers: {}, body })).toBe('UNAUTHORIZED');
  expect(await site.receive({ headers: { authorization: ['Bearer a.b.c'] }, body })).toBe('UNAUTHORIZED');
  expect(kvs.operations).toEqual([]);
});

it('responds RETRY to an invocation without a site', async () => {
  const { receive } = await import('../src/receiver');
  expect(await receive(backend.update(site, '2026-11-22T10:05:00Z'), {}, site.now)).toEqual({ outputKey: 'RETRY' });
});

it('never logs tokens, bodies, keys or trigger URLs', async () => {
  const { token, request } = await (async () => {
    const handoff = await site.handoff({ app: newApp().id });
    return { token: handoff, request: backend.register(site, handoff) };
  })();
  expect(await site.receive(request)).toBe('HANDOFF_INVALID');
  expect(await site.receive(backend.register(site, await site.handoff(), { body: { jwk: { secret: 'value' } } }))).toBe('BAD_REQUEST');
  const logged = vi.mocked(console.warn).mock.calls.flat().join('\n');
  expect(logged).toContain('BAD_REQUEST');
  for (const secret of [token, site.triggerUrl, 'secret', request.headers?.['authorization']?.[0] ?? '?']) expect(logged).not.toContain(secret);
});
