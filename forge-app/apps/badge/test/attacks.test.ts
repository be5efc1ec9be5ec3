import { beforeEach, describe, expect, it, vi } from 'vitest';

import { readOverview } from '../src/overview';
import { readTrust } from '../src/store';
import { compactJws, encode, request, sha256, signingKey } from '../../../packages/verifier/test/signing';
import { Backend, BACKEND_URL, seconds, service } from './support/backend';
import { kvs, newApp, Site } from './support/site';

/**
 * Attackers may have: the trigger URL, the backend's public API with hand-offs of their own, an installation of the same app
 * on their own site, and any callback that was ever sent to them.
 */
let backend: Backend;
let site: Site;
let attackersSite: Site;

beforeEach(() => {
  vi.spyOn(console, 'warn').mockReturnValue();
  backend = new Backend();
  site = new Site();
  attackersSite = new Site(site.app);
  site.enter(backend);
});

async function nothingChanged(attack: () => Promise<unknown>): Promise<void> {
  const before = JSON.stringify([await readTrust(), await readOverview()]);
  await attack();
  expect(JSON.stringify([await readTrust(), await readOverview()])).toBe(before);
}

async function registerVictim(): Promise<void> {
  expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
}

describe('planting a key with a known trigger URL', () => {
  it('fails with a REGISTER that the attacker signs', async () => {
    const own = signingKey();
    const forged = backend.register(site, await site.handoff({ key: own }), { key: own, body: { jwk: own.jwk } });
    await nothingChanged(async () => expect(await site.receive(forged)).toBe('UNAUTHORIZED'));
  });

  it('fails through the backend, which signs, because the app never made the hand-off', async () => {
    const own = signingKey();
    for (const handoff of ['', undefined, 'a.b.c', await site.handoff({ key: own }), await site.handoff({ key: own, app: 'x' })]) {
      const relayed = backend.register(site, handoff ?? '', { body: { jwk: own.jwk, handoff } });
      await nothingChanged(async () => expect(await site.receive(relayed)).toBe('HANDOFF_INVALID'));
    }
  });
});

describe('relaying a REGISTER from another installation', () => {
  it('fails as it is, and with the victim named in the body', async () => {
    const theirs = await attackersSite.handoff();
    await nothingChanged(async () => {
      expect(await site.receive(backend.register(attackersSite, theirs))).toBe('UNAUTHORIZED');
      expect(await site.receive(backend.register(attackersSite, theirs, { body: { cloudId: site.cloudId, tenantId: site.tenantId } }))).toBe('UNAUTHORIZED');
    });
  });

  it('fails when the attacker names the victim\'s cloud id with another trigger', async () => {
    const mixed = Object.assign(new Site(site.app), { cloudId: site.cloudId });
    await nothingChanged(async () => expect(await site.receive(backend.register(mixed, await mixed.handoff()))).toBe('UNAUTHORIZED'));
  });
});

describe('registering again with another key', () => {
  it('fails with the hand-off that was used already', async () => {
    const handoff = await site.handoff();
    expect(await site.receive(backend.register(site, handoff))).toBe('ACCEPTED');
    const second = backend.register(site, handoff, { body: { jwk: signingKey().jwk } });
    await nothingChanged(async () => expect(await site.receive(second)).toBe('HANDOFF_USED'));
  });

  it('fails with a hand-off that is not newer than the one that installed the present key', async () => {
    const kept = await site.handoff({ at: new Date(site.now.getTime() - 1000) });
    await registerVictim();
    const second = backend.register(site, kept, { body: { jwk: signingKey().jwk } });
    await nothingChanged(async () => expect(await site.receive(second)).toBe('KEY_CONFLICT'));
  });
});

describe('a hand-off', () => {
  it.each<[string, () => Promise<string>]>([
    ['for another cloud id', () => site.handoff({ cloudId: attackersSite.cloudId })],
    ['for another trigger', () => site.handoff({ triggerUrl: attackersSite.triggerUrl })],
    ['of another app', () => site.handoff({ app: `ari:cloud:ecosystem::app/${newApp().id}` })],
    ['signed by another app', () => site.handoff({ key: newApp().key })],
    ['for another backend', () => site.handoff({ backendUrl: 'https://other.example' })],
    ['that ended more than five minutes before the registration', () => site.handoff({ at: new Date(site.now.getTime() - 901_000) })],
    ['from the future', () => site.handoff({ at: new Date(site.now.getTime() + 61_000) })],
    ['with another purpose', () => bent({ purpose: 'manage' })],
    ['with a life of an hour', () => bent({ exp: seconds(site.now) + 3600 })],
    ['without an end', () => bent({ exp: undefined })],
    ['without an owner', () => bent({ accountId: '' })],
    ['whose id could be a path', () => bent({ jti: 'trust' })],
    ['that is a callback token', () => bent({}, { typ: 'forge-callback+jwt' })],
    ['without a signature', async () => (await site.handoff()).replace(/[^.]+$/, '')],
    ['with alg none', async () => `${encode({ alg: 'none', typ: 'forge-handoff+jwt', kid: site.app.key.kid })}.${(await site.handoff()).split('.')[1] ?? ''}.AAAA`],
  ])('%s is HANDOFF_INVALID', async (_, make) => {
    const attack = backend.register(site, await make());
    await nothingChanged(async () => expect(await site.receive(attack)).toBe('HANDOFF_INVALID'));
    expect(kvs.operations.filter(({ kind }) => kind === 'set')).toEqual([]);
  });

  it('used for another service is HANDOFF_USED', async () => {
    const handoff = await site.handoff();
    expect(await site.receive(backend.register(site, handoff))).toBe('ACCEPTED');
    const second = backend.register(site, handoff, { body: { service: service({ id: 'eeeeffffgggghhhh', owner: site.owner }) } });
    await nothingChanged(async () => expect(await site.receive(second)).toBe('HANDOFF_USED'));
  });

  it('used by two registrations at once serves one of them', async () => {
    const handoff = await site.handoff();
    const ids = ['eeeeffffgggghhhh', 'iiiijjjjkkkkllll'];
    const both = ids.map((id) => backend.register(site, handoff, { body: { service: service({ id, owner: site.owner }) } }));
    const codes = await Promise.all(both.map((one) => site.receive(one)));
    expect(codes.sort()).toEqual(['ACCEPTED', 'HANDOFF_USED']);
    expect((await readOverview()).services).toHaveLength(1);
  });

  it('replayed after its record in the store has expired is still refused', async () => {
    vi.useFakeTimers({ now: site.now, toFake: ['Date'] });
    const handoff = await site.handoff();
    expect(await site.receive(backend.register(site, handoff))).toBe('ACCEPTED');
    site.wait(24 * 3600);
    vi.setSystemTime(site.now);
    const second = backend.register(site, handoff, { body: { service: service({ id: 'eeeeffffgggghhhh', owner: site.owner }) } });
    await nothingChanged(async () => expect(await site.receive(second)).toBe('HANDOFF_INVALID'));
    vi.useRealTimers();
  });

  function bent(claims: object, header: object = {}): Promise<string> {
    const iat = seconds(site.now);
    const all = {
      iss: `ari:cloud:ecosystem::app/${site.app.id}`, aud: BACKEND_URL, iat, exp: iat + 600, jti: '0123456789abcdef0123456789abcdef', purpose: 'register',
      cloudId: site.cloudId, accountId: site.owner, triggerUrl: site.triggerUrl, callbackUrl: 'https://acme.atlassian.net/', ...claims,
    };
    return Promise.resolve(compactJws({ alg: 'EdDSA', typ: 'forge-handoff+jwt', kid: site.app.key.kid, ...header }, all, site.app.key));
  }
});

describe('an UPDATE', () => {
  const TICK = '2026-11-22T10:05:00Z';

  it('of tenant A sent to B is refused', async () => {
    await registerVictim();
    const theirs = new Backend();
    theirs.deploymentKey = backend.deploymentKey;
    await nothingChanged(async () => expect(await site.receive(theirs.update(attackersSite, TICK))).toBe('UNAUTHORIZED'));
  });

  it('of A is refused by B even if both had the same key', async () => {
    await registerVictim();
    const relayed = backend.update(attackersSite, TICK, { claims: { aud: site.cloudId } });
    await nothingChanged(async () => expect(await site.receive(relayed)).toBe('UNAUTHORIZED'));
  });

  it('of the development environment is refused by production on the same site', async () => {
    await registerVictim();
    const development = Object.assign(new Site(site.app), { cloudId: site.cloudId });
    await nothingChanged(async () => expect(await site.receive(backend.update(development, TICK))).toBe('UNAUTHORIZED'));
  });

  it('with another body under a valid token is refused', async () => {
    await registerVictim();
    const genuine = backend.update(site, TICK);
    const swapped = { ...genuine, body: genuine.body?.replace('"ALIVE"', '"DOWN"') };
    await nothingChanged(async () => expect(await site.receive(swapped)).toBe('UNAUTHORIZED'));
  });

  it('from before the last one is refused', async () => {
    await registerVictim();
    const old = backend.update(site, '2026-11-22T10:00:00Z', { body: { services: [service({ status: 'DOWN' })] } });
    expect(await site.receive(backend.update(site, TICK))).toBe('ACCEPTED');
    await nothingChanged(async () => expect(await site.receive(old)).toBe('STALE_TICK'));
  });

  it('is refused once its five minutes and the skew are over', async () => {
    await registerVictim();
    const late = backend.update(site, TICK);
    site.wait(360);
    await nothingChanged(async () => expect(await site.receive(late)).toBe('UNAUTHORIZED'));
  });

  it('signed by the deployment key is refused: what registers cannot update', async () => {
    await registerVictim();
    await nothingChanged(async () => expect(await site.receive(backend.update(site, TICK, { key: backend.deploymentKey }))).toBe('UNAUTHORIZED'));
  });

  it('whose token was made for registering is refused', async () => {
    await registerVictim();
    const crossed = backend.update(site, TICK, { key: backend.deploymentKey, claims: { scope: 'health:register' } });
    await nothingChanged(async () => expect(await site.receive(crossed)).toBe('UNAUTHORIZED'));
  });

  it('signed by a key in its own header is refused', async () => {
    await registerVictim();
    const own = signingKey();
    const body = backend.update(site, TICK).body ?? '';
    const iat = seconds(site.now);
    const claims = { iss: BACKEND_URL, aud: site.cloudId, sub: site.tenantId, iat, exp: iat + 300, jti: 'x', scope: 'health:update', body_sha256: sha256(body) };
    const token = compactJws({ alg: 'EdDSA', typ: 'forge-callback+jwt', kid: own.kid, jwk: own.jwk }, claims, own);
    await nothingChanged(async () => expect(await site.receive(request(token, body))).toBe('UNAUTHORIZED'));
  });
});
