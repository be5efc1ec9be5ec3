import { describe, expect, it } from 'vitest';

import { readOverview } from '../src/overview';
import { signingKey } from '../../../packages/verifier/test/signing';
import { rfc3339, seconds, service } from './support/backend';
import { backend, freshInstallation, registered, site, trusted, writes } from './support/installation';
import { kvs } from './support/site';

freshInstallation();

describe('REGISTER', () => {
  it('installs the key and shows the service at once', async () => {
    await registered();
    expect((await trusted())?.keys.map(({ jwk }) => jwk)).toEqual([backend.tenantKey.jwk]);
    expect((await readOverview()).services).toMatchObject([{ name: 'Shop', status: 'ALIVE' }]);
  });

  it('is applied again and answered DUPLICATE when it is repeated', async () => {
    const first = backend.register(site, await site.handoff());
    expect(await site.receive(first)).toBe('ACCEPTED');
    expect(await site.receive(first)).toBe('DUPLICATE');
    expect((await readOverview()).services).toHaveLength(1);
  });

  it('completes at a repeat after a failure of the store', async () => {
    const first = backend.register(site, await site.handoff());
    kvs.beforeOperation = ({ kind, key }) => {
      if (kind === 'set' && key === 'trust') throw new Error('the store is gone');
    };
    expect(await site.receive(first)).toBe('RETRY');
    kvs.beforeOperation = undefined;
    expect(await site.receive(first)).toBe('DUPLICATE');
    expect((await readOverview()).services).toHaveLength(1);
  });

  it('accepts a second service under the same key', async () => {
    await registered();
    const second = service({ id: 'eeeeffffgggghhhh', name: 'Blog', owner: site.owner });
    expect(await site.receive(backend.register(site, await site.handoff(), { body: { service: second } }))).toBe('ACCEPTED');
    expect((await readOverview()).services.map(({ name }) => name)).toEqual(['Shop', 'Blog']);
    expect((await trusted())?.keys).toHaveLength(1);
  });

  it('is accepted ten minutes after the hand-off, delivered five minutes later', async () => {
    const handoff = await site.handoff();
    site.wait(899);
    expect(await site.receive(backend.register(site, handoff))).toBe('ACCEPTED');
  });

  it('replaces a lost key with a fresh hand-off, and the old key is not trusted any more', async () => {
    await registered();
    const lost = backend.tenantKey;
    backend.tenantKey = signingKey();
    site.wait(1);
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { key: lost }))).toBe('UNAUTHORIZED');
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z'))).toBe('ACCEPTED');
  });

  it('from before a replacement does not restore the old key', async () => {
    const old = backend.register(site, await site.handoff());
    expect(await site.receive(old)).toBe('ACCEPTED');
    backend.tenantKey = signingKey();
    site.wait(1);
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect(await site.receive(old)).toBe('KEY_CONFLICT');
    expect((await trusted())?.keys.map(({ jwk }) => jwk)).toEqual([backend.tenantKey.jwk]);
  });

  it('of a known service by a second person names the person in the hand-off', async () => {
    await registered();
    const bob = await site.handoff({ accountId: 'pseudonym-of-bob' });
    expect(await site.receive(backend.register(site, bob, { body: { service: service({ owner: 'pseudonym-of-bob' }) } }))).toBe('ACCEPTED');
    expect((await readOverview()).services).toHaveLength(1);
    const again = await site.handoff({ accountId: 'pseudonym-of-bob' });
    expect(await site.receive(backend.register(site, again, { body: { service: service({ owner: site.owner }) } }))).toBe('BAD_REQUEST');
  });

  it('names the person who added the service first', async () => {
    const registerAs = async (owner: string, addedBy: unknown) => {
      const fields = service({ owner, addedBy });
      return site.receive(backend.register(site, await site.handoff({ accountId: owner }), { body: { service: fields } }));
    };
    const addedBy = async () => (await readOverview()).services.map((service) => service.addedBy);
    expect(await registerAs('p-alice', 'p-alice')).toBe('ACCEPTED');
    expect(await registerAs('p-bob', 'p-alice')).toBe('ACCEPTED');
    expect(await addedBy()).toEqual(['p-alice']);
    const update = (fields: Record<string, unknown>) => backend.update(site, rfc3339(site.now), { body: { services: [service(fields)] } });
    expect(await site.receive(update({ addedBy: 'p-alice' }))).toBe('ACCEPTED');
    // Removed meanwhile, and Bob's now: the report is older than that.
    site.wait(61);
    expect(await registerAs('p-bob', 'p-bob')).toBe('ACCEPTED');
    expect(await addedBy()).toEqual(['p-bob']);
    site.wait(239);
    expect(await site.receive(update({ addedBy: 'p-carol' }))).toBe('ACCEPTED');
    expect(await addedBy()).toEqual(['p-carol']);
    for (const odd of [undefined, 7, '', 'a b', 'x'.repeat(129)]) expect(await registerAs('p-bob', odd)).toBe('BAD_REQUEST');
  });

  it('with a new hand-off recovers an app that lost its storage', async () => {
    await registered();
    expect(await site.receive(backend.update(site, '2026-11-22T10:00:00Z'))).toBe('ACCEPTED');
    kvs.clear();
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z'))).toBe('UNREGISTERED');
    site.wait(300);
    // The secret that made the owner's pseudonym is gone with the rest, so the same person has another one.
    const owner = 'another-pseudonym-of-alice';
    const fresh = await site.handoff({ accountId: owner });
    expect(await site.receive(backend.register(site, fresh, { body: { service: service({ owner }) } }))).toBe('ACCEPTED');
    const all = [service({ status: 'DOWN' }), service({ id: 'eeeeffffgggghhhh', name: 'Blog' })];
    expect(await site.receive(backend.update(site, '2026-11-22T10:10:00Z', { body: { services: all } }))).toBe('ACCEPTED');
    expect((await readOverview()).services.map(({ name, status }) => [name, status])).toEqual([['Shop', 'DOWN'], ['Blog', 'ALIVE']]);
  });

  it('under an ended key installs that key, after the backend was restored', async () => {
    await registered();
    const restored = backend.tenantKey;
    const next = signingKey();
    const keyIntroduction = backend.endorsement(site, restored, next);
    expect(await site.receive(backend.update(site, rfc3339(site.now), { key: next, body: { keyIntroduction } }))).toBe('ACCEPTED');
    // The key from before the restore point is still stored: no callback has dropped it.
    site.wait(3601);
    expect((await trusted())?.keys.map(({ jwk }) => jwk)).toEqual([next.jwk, restored.jwk]);
    expect(await site.receive(backend.update(site, rfc3339(site.now), { key: restored }))).toBe('UNAUTHORIZED');
    // What docs/operations.md says: a person presses "Add service".
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect((await trusted())?.keys).toEqual([{ jwk: restored.jwk, until: undefined }]);
    for (let ticks = 0; ticks < 3; ticks += 1) {
      site.wait(3600);
      expect(await site.receive(backend.update(site, rfc3339(site.now), { key: restored }))).toBe('ACCEPTED');
    }
    expect(await site.receive(backend.update(site, rfc3339(site.now), { key: next }))).toBe('UNAUTHORIZED');
  });

  it('under another key drops ended keys, and keeps the one in its last hour', async () => {
    await registered();
    const first = backend.tenantKey;
    backend.tenantKey = signingKey();
    const keyIntroduction = backend.endorsement(site, first, backend.tenantKey);
    expect(await site.receive(backend.update(site, rfc3339(site.now), { body: { keyIntroduction } }))).toBe('ACCEPTED');
    const until = seconds(site.now) + 3600;
    site.wait(3600);
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect((await trusted())?.keys.map((key) => key.until)).toEqual([undefined, until]);
    site.wait(1);
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect((await trusted())?.keys).toEqual([{ jwk: backend.tenantKey.jwk, until: undefined }]);
  });

  it('starts anew when the web trigger of the installation has another URL', async () => {
    await registered();
    await site.receive(backend.update(site, '2026-11-22T10:05:00Z'));
    const { trust, ...stored } = (await kvs.get<{ trust: object }>('trust')) ?? { trust: {} };
    await kvs.set('trust', { ...stored, trust: { ...trust, tenantId: 'zzzzbbbbccccddddeeeeffffgggg2345' } });
    backend.tenantKey = signingKey();
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect((await trusted())?.tenantId).toBe(site.tenantId);
  });

  it.each([
    ['no key', { jwk: undefined }],
    ['a private key', { jwk: signingKey().privateKey.export({ format: 'jwk' }) }],
    ['the neutral element as key', { jwk: { kty: 'OKP', crv: 'Ed25519', x: `AQ${'A'.repeat(41)}` } }],
    ['no service', { service: undefined }],
    ['a service of another owner', { service: service({ owner: 'pseudonym-of-mallory' }) }],
    ['a service whose URL is a script', { service: service({ url: 'javascript:alert(1)' }) }],
    ['a service whose status is markup', { service: service({ status: '<b>ALIVE</b>' }) }],
    ['no period', { periodS: undefined }],
    ['a period of a day', { periodS: 86_400 }],
  ])('with %s is BAD_REQUEST and changes nothing', async (_, body) => {
    expect(await site.receive(backend.register(site, await site.handoff(), { body }))).toBe('BAD_REQUEST');
    expect(writes()).toEqual([]);
  });
});
