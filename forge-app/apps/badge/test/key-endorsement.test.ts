import { describe, expect, it } from 'vitest';

import { signingKey } from '../../../packages/verifier/test/signing';
import { rfc3339, seconds } from './support/backend';
import { backend, freshInstallation, registered, site, trusted } from './support/installation';
import { Site } from './support/site';

freshInstallation();

describe('a key endorsement', () => {
  const TICKS = ['2026-11-22T10:05:00Z', '2026-11-22T10:10:00Z', '2026-11-22T10:15:00Z'] as const;

  it('adds the next key, and the previous one ends an hour after the first UPDATE under it', async () => {
    await registered();
    const old = backend.tenantKey;
    const next = signingKey();
    const keyIntroduction = backend.endorsement(site, old, next);
    expect(await site.receive(backend.update(site, TICKS[0], { body: { keyIntroduction } }))).toBe('ACCEPTED');
    site.wait(300);
    expect(await site.receive(backend.update(site, TICKS[1], { key: next }))).toBe('ACCEPTED');
    site.wait(300);
    expect(await site.receive(backend.update(site, TICKS[2], { key: old }))).toBe('ACCEPTED');
    site.wait(3301);
    const late = rfc3339(site.now);
    expect(await site.receive(backend.update(site, late, { key: old }))).toBe('UNAUTHORIZED');
    expect(await site.receive(backend.update(site, late, { key: next }))).toBe('ACCEPTED');
    expect((await trusted())?.keys.map(({ jwk }) => jwk)).toEqual([next.jwk]);
  });

  it('counts in an UPDATE that the next key signs', async () => {
    await registered();
    const next = signingKey();
    const keyIntroduction = backend.endorsement(site, backend.tenantKey, next);
    expect(await site.receive(backend.update(site, TICKS[0], { key: next, body: { keyIntroduction } }))).toBe('ACCEPTED');
    expect((await trusted())?.keys[0]?.jwk).toEqual(next.jwk);
  });

  it('counts in an UPDATE with a stale tick: a leaked key cannot keep the next one out', async () => {
    await registered();
    const leaked = backend.tenantKey;
    const next = signingKey();
    const keyIntroduction = backend.endorsement(site, leaked, next);
    const ahead = () => rfc3339(new Date(site.now.getTime() + 59_000));
    const forged = () => site.receive(backend.update(site, ahead(), { key: leaked }));
    const genuine = () => site.receive(backend.update(site, rfc3339(site.now), { key: next, body: { keyIntroduction } }));
    expect(await forged()).toBe('ACCEPTED');
    expect(await genuine()).toBe('STALE_TICK');
    expect((await trusted())?.keys.map(({ jwk, until }) => [jwk, until])).toEqual([
      [next.jwk, undefined],
      [leaked.jwk, seconds(site.now) + 3600],
    ]);
    site.wait(1800);
    expect(await forged()).toBe('ACCEPTED');
    expect(await genuine()).toBe('STALE_TICK');
    site.wait(1801);
    expect(await forged()).toBe('UNAUTHORIZED');
    expect(await genuine()).toBe('ACCEPTED');
  });

  const stranger = signingKey();
  it.each<[string, () => string]>([
    ['signed by a stranger', () => backend.endorsement(site, backend.tenantKey, stranger, {}, stranger)],
    ['signed by the tenant key itself', () => backend.endorsement(site, backend.tenantKey, stranger, {}, backend.tenantKey)],
    ['for another tenant', () => backend.endorsement(site, backend.tenantKey, stranger, { sub: 'zzzzbbbbccccddddeeeeffffgggg2345' })],
    ['for another site', () => backend.endorsement(site, backend.tenantKey, stranger, { aud: new Site().cloudId })],
    ['after another key', () => backend.endorsement(site, signingKey(), stranger)],
    ['that has expired', () => backend.endorsement(site, backend.tenantKey, stranger, { iat: 1, exp: 2 })],
    ['without an end', () => backend.endorsement(site, backend.tenantKey, stranger, { exp: undefined })],
    ['of a key of small order', () => backend.endorsement(site, backend.tenantKey, stranger, { jwk: { kty: 'OKP', crv: 'Ed25519', x: `AQ${'A'.repeat(41)}` } })],
  ])('%s adds nothing', async (_, make) => {
    await registered();
    const keyIntroduction = make();
    expect(await site.receive(backend.update(site, TICKS[0], { key: stranger, body: { keyIntroduction } }))).toBe('UNAUTHORIZED');
    expect(await site.receive(backend.update(site, TICKS[0], { body: { keyIntroduction } }))).toBe('ACCEPTED');
    expect((await trusted())?.keys.map(({ jwk }) => jwk)).toEqual([backend.tenantKey.jwk]);
  });

  it('counts again after a registration with the previous key', async () => {
    // The backend lost the responses to its next key, so it still registers with the previous one.
    await registered();
    const old = backend.tenantKey;
    const next = signingKey();
    const update = () => backend.update(site, rfc3339(site.now), { key: next, body: { keyIntroduction: backend.endorsement(site, old, next) } });
    for (const seconds of [300, 4000]) {
      site.wait(seconds);
      expect(await site.receive(update())).toBe('ACCEPTED');
    }
    expect((await trusted())?.keys.map(({ jwk }) => jwk)).toEqual([next.jwk]);
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect((await trusted())?.keys.map(({ jwk }) => jwk)).toEqual([old.jwk]);
    site.wait(300);
    expect(await site.receive(update())).toBe('ACCEPTED');
    expect((await trusted())?.keys[0]?.jwk).toEqual(next.jwk);
  });

  it('of an earlier rotation is without effect', async () => {
    await registered();
    const first = backend.tenantKey;
    const next = signingKey();
    const keyIntroduction = backend.endorsement(site, first, next);
    await site.receive(backend.update(site, TICKS[0], { key: next, body: { keyIntroduction } }));
    site.wait(4000);
    const tick = rfc3339(site.now);
    expect(await site.receive(backend.update(site, tick, { key: first, body: { keyIntroduction } }))).toBe('UNAUTHORIZED');
    expect((await trusted())?.keys[0]?.jwk).toEqual(next.jwk);
  });
});
