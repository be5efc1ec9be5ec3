import { beforeEach, describe, expect, it, vi } from 'vitest';

import { readOverview } from '../src/overview';
import { forgetEverything, readReport, readTrust } from '../src/store';
import { isSilent } from '../../../page/src/silence';
import { signingKey } from '../../../packages/verifier/test/signing';
import { Backend, PERIOD_S, rfc3339, seconds, service } from './support/backend';
import { kvs, newApp, Site } from './support/site';

let backend: Backend;
let site: Site;

beforeEach(() => {
  vi.spyOn(console, 'warn').mockReturnValue();
  backend = new Backend();
  site = new Site();
  site.enter(backend);
});

async function registered(): Promise<void> {
  expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
  kvs.operations.length = 0;
}

const trusted = async () => (await readTrust()).trust;
const writes = () => kvs.operations.filter(({ kind }) => kind === 'set').map(({ key }) => key);

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

  it('finishes at a repetition what a failing store interrupted', async () => {
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

  it('is accepted when the person took the whole ten minutes, and the delivery five more', async () => {
    const handoff = await site.handoff();
    site.wait(899);
    expect(await site.receive(backend.register(site, handoff))).toBe('ACCEPTED');
  });

  it('replaces a lost key with a fresh hand-off, and the old key counts no more', async () => {
    await registered();
    const lost = backend.tenantKey;
    backend.tenantKey = signingKey();
    site.wait(1);
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { key: lost }))).toBe('UNAUTHORIZED');
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z'))).toBe('ACCEPTED');
  });

  it('of before a replacement does not bring the old key back', async () => {
    const old = backend.register(site, await site.handoff());
    expect(await site.receive(old)).toBe('ACCEPTED');
    backend.tenantKey = signingKey();
    site.wait(1);
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect(await site.receive(old)).toBe('KEY_CONFLICT');
    expect((await trusted())?.keys.map(({ jwk }) => jwk)).toEqual([backend.tenantKey.jwk]);
  });

  it('by a second person of a service that is there already is accepted under the name of who is inside the hand-off', async () => {
    await registered();
    const bob = await site.handoff({ accountId: 'pseudonym-of-bob' });
    expect(await site.receive(backend.register(site, bob, { body: { service: service({ owner: 'pseudonym-of-bob' }) } }))).toBe('ACCEPTED');
    expect((await readOverview()).services).toHaveLength(1);
    const again = await site.handoff({ accountId: 'pseudonym-of-bob' });
    expect(await site.receive(backend.register(site, again, { body: { service: service({ owner: site.owner }) } }))).toBe('BAD_REQUEST');
  });

  it('names who added the service first, whoever asks now', async () => {
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

  it('with a new hand-off heals an app that lost its storage: the next report is accepted again', async () => {
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

  it('under a key that is past its end installs that key: the way out after the backend was restored', async () => {
    await registered();
    const restored = backend.tenantKey;
    const next = signingKey();
    const keyIntroduction = backend.introduction(site, restored, next);
    expect(await site.receive(backend.update(site, rfc3339(site.now), { key: next, body: { keyIntroduction } }))).toBe('ACCEPTED');
    // The key before the restore point is still stored, and nothing has come in to drop it.
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

  it('under another key drops the keys that are past their end, and keeps the one in its last hour', async () => {
    await registered();
    const first = backend.tenantKey;
    backend.tenantKey = signingKey();
    const keyIntroduction = backend.introduction(site, first, backend.tenantKey);
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

describe('UPDATE', () => {
  it('before any registration is UNREGISTERED', async () => {
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z'))).toBe('UNREGISTERED');
    expect(writes()).toEqual([]);
  });

  it('costs one write, and the whole state is what it says', async () => {
    await registered();
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { services: [service({ status: 'DOWN', held: true })] } }))).toBe('ACCEPTED');
    expect(writes()).toEqual(['report']);
    expect(await readReport()).toMatchObject({
      tick: Date.parse('2026-11-22T10:05:00Z') / 1000,
      services: [{ name: 'Shop', status: 'DOWN', held: true, check: { responseTimeMs: 84, httpStatus: 200 } }],
    });
  });

  it('of fifty services with long names and addresses is stored within 64 KiB', async () => {
    await registered();
    const services = Array.from({ length: 50 }, (_, at) =>
      service({ id: `aaaabbbbccccd${'abcdefghijklmnopqrstuvwxyz'.charAt(at % 26)}${at < 26 ? 'aa' : 'bb'}`, name: '名'.repeat(80), url: `https://shop.example/${'x'.repeat(2000)}` }),
    );
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { services } }))).toBe('ACCEPTED');
    expect(kvs.operations.find(({ kind }) => kind === 'set')?.bytes).toBeLessThan(64 * 1024);
  });

  it('that leaves a service out removes it', async () => {
    await registered();
    site.wait(300);
    await site.receive(backend.update(site, '2026-11-22T10:10:00Z', { body: { services: [] } }));
    expect((await readOverview()).services).toEqual([]);
  });

  it('repeated is DUPLICATE; another body for the tick and every earlier tick are STALE_TICK', async () => {
    await registered();
    const second = backend.update(site, '2026-11-22T10:05:00Z');
    expect(await site.receive(second)).toBe('ACCEPTED');
    expect(await site.receive(second)).toBe('DUPLICATE');
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { services: [] } }))).toBe('STALE_TICK');
    expect(await site.receive(backend.update(site, '2026-11-22T10:00:00Z'))).toBe('STALE_TICK');
    expect((await readOverview()).services).toHaveLength(1);
  });

  it('that is overtaken between its read and its write puts the later one back', async () => {
    await registered();
    const early = backend.update(site, '2026-11-22T10:04:00Z');
    const late = backend.update(site, '2026-11-22T10:05:00Z', { body: { services: [service({ status: 'DOWN' })] } });
    let overtake = true;
    kvs.beforeOperation = async ({ kind, key }) => {
      if (kind !== 'set' || key !== 'report' || !overtake) return;
      overtake = false;
      expect(await site.receive(late)).toBe('ACCEPTED');
    };
    expect(await site.receive(early)).toBe('STALE_TICK');
    expect(await readReport()).toMatchObject({ tick: Date.parse('2026-11-22T10:05:00Z') / 1000, services: [{ status: 'DOWN' }] });
  });

  it('keeps a change once, however often it is carried, and the newest first', async () => {
    await registered();
    const down = { tick: '2026-11-22T10:00:00Z', serviceId: 'aaaabbbbccccdddd', from: 'ALIVE', to: 'DOWN', at: '2026-11-22T10:00:07Z', reason: 'timeout' };
    const up = { ...down, tick: '2026-11-22T10:05:00Z', from: 'DOWN', to: 'ALIVE', at: '2026-11-22T10:05:02Z', reason: 'ok' };
    await site.receive(backend.update(site, '2026-11-22T10:00:00Z', { body: { transitions: [down] } }));
    await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { transitions: [down, up] } }));
    expect((await readOverview()).transitions.map(({ to }) => to)).toEqual(['ALIVE', 'DOWN']);
  });

  it('with more services, or more transitions, than a tenant can have is BAD_REQUEST', async () => {
    await registered();
    const services = (count: number) => Array.from({ length: count }, (_, at) => service({ id: `aaaabbbbccccddd${'abcdefghijklmnopqrstuvwxyz234567'.charAt(at % 32)}`.replace(/^./, at < 32 ? 'a' : 'b') }));
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { services: services(51) } }))).toBe('BAD_REQUEST');
    const transition = { tick: '2026-11-22T10:00:00Z', serviceId: 'aaaabbbbccccdddd', from: 'ALIVE', to: 'DOWN', at: '2026-11-22T10:00:07Z', reason: 'timeout' };
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { transitions: Array<object>(101).fill(transition) } }))).toBe('BAD_REQUEST');
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { services: services(50), transitions: Array<object>(100).fill(transition) } }))).toBe('ACCEPTED');
  });

  it('says how long a service was not checked, and keeps reason words that it does not know', async () => {
    await registered();
    const unseen = { tick: '2026-11-22T10:00:00Z', serviceId: 'aaaabbbbccccdddd', from: 'ALIVE', to: 'UNKNOWN', at: '2026-11-22T10:00:07Z', reason: 'not-checked' };
    const later = { ...unseen, tick: '2026-11-22T10:05:00Z', at: '2026-11-22T10:05:07Z', reason: 'solar-flare' };
    const body = { services: [service({ status: 'UNKNOWN', unseenTicks: 4, weather: 'fine' })], transitions: [unseen, later] };
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body }))).toBe('ACCEPTED');
    const { services, transitions } = await readOverview();
    expect(services.map(({ unseenTicks }) => unseenTicks)).toEqual([4]);
    expect(transitions.map(({ reason }) => reason)).toEqual(['solar-flare', 'not-checked']);
  });

  it.each([
    ['a tick of tomorrow', { tick: '2026-11-23T10:05:00Z' }],
    ['a tick with milliseconds', { tick: '2026-11-22T10:05:00.000Z' }],
    ['a next report that is due before this one', { nextUpdateBy: '2026-11-22T10:05:00Z' }],
    ['a next report in more than a day', { nextUpdateBy: '2026-11-23T10:05:01Z' }],
    ['a next report that is due in seconds', { nextUpdateBy: 3900 }],
    ['no next report', { nextUpdateBy: undefined }],
    ['no period', { periodS: undefined }],
    ['a period of 59 s', { periodS: 59 }],
    ['a period of 3,601 s', { periodS: 3601 }],
    ['a period that is a text', { periodS: '300' }],
    ['a service of nobody', { services: [service({ addedBy: undefined })] }],
    ['a service that was not checked at 0 ticks', { services: [service({ unseenTicks: 0 })] }],
    ['no services', { services: undefined }],
    ['a service without a name', { services: [service({ name: '' })] }],
    ['a service id of another form', { services: [service({ id: '../../report' })] }],
    ['a reason that is a sentence', { transitions: [{ tick: '2026-11-22T10:00:00Z', serviceId: 'aaaabbbbccccdddd', from: 'ALIVE', to: 'DOWN', at: '2026-11-22T10:00:07Z', reason: '<img src=x>' }] }],
    ['a response time below zero', { services: [service({ check: { checkedAt: '2026-11-22T10:05:02Z', responseTimeMs: -1 } })] }],
  ])('with %s is BAD_REQUEST and changes nothing', async (_, body) => {
    await registered();
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body }))).toBe('BAD_REQUEST');
    expect(writes()).toEqual([]);
  });

  it('over 1 MiB is TOO_LARGE', async () => {
    await registered();
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { padding: 'x'.repeat(1024 * 1024) } }))).toBe('TOO_LARGE');
  });

  it('is answered RETRY while the store fails', async () => {
    await registered();
    kvs.beforeOperation = () => {
      throw new Error('the store is gone');
    };
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z'))).toBe('RETRY');
  });
});

describe('silence', () => {
  const silent = async () => isSilent(await readOverview(), seconds(site.now));
  const update = (body: object = {}) => site.receive(backend.update(site, rfc3339(site.now), { body }));
  const secondService = async () => {
    const second = service({ id: 'eeeeffffgggghhhh', name: 'Blog', owner: site.owner });
    return site.receive(backend.register(site, await site.handoff(), { body: { service: second } }));
  };

  it('begins 60 s after the next report was due', async () => {
    await registered();
    expect(await update()).toBe('ACCEPTED');
    site.wait(2 * PERIOD_S + 60);
    expect(await silent()).toBe(false);
    site.wait(1);
    expect(await silent()).toBe(true);
  });

  it('is measured by what the last report says, whatever the one before said', async () => {
    await registered();
    expect(await update({ nextUpdateBy: '2026-11-22T11:05:12Z' })).toBe('ACCEPTED');
    site.wait(PERIOD_S);
    expect(await update()).toBe('ACCEPTED');
    site.wait(2 * PERIOD_S + 61);
    expect(await silent()).toBe(true);
  });

  it('is not ended by a registration: an old report stays old', async () => {
    await registered();
    expect(await update()).toBe('ACCEPTED');
    site.wait(1200);
    expect(await silent()).toBe(true);
    expect(await secondService()).toBe('ACCEPTED');
    expect((await readOverview()).services).toHaveLength(2);
    expect(await silent()).toBe(true);
    expect(await update()).toBe('ACCEPTED');
    expect(await silent()).toBe(false);
  });

  it('begins two periods and 60 s after the registration when no report comes, however many registrations do', async () => {
    const body = { periodS: 600 };
    expect(await site.receive(backend.register(site, await site.handoff(), { body }))).toBe('ACCEPTED');
    expect(await readOverview()).toMatchObject({ receivedAt: seconds(site.now), nextUpdateBy: seconds(site.now) + 1200, periodS: 600 });
    site.wait(1260);
    expect(await secondService()).toBe('ACCEPTED');
    expect(await silent()).toBe(false);
    site.wait(1);
    expect(await silent()).toBe(true);
  });

  it('is none when the last service was removed, and begins anew with the next one', async () => {
    await registered();
    site.wait(300);
    expect(await update({ services: [] })).toBe('ACCEPTED');
    site.wait(86_400);
    expect(await silent()).toBe(false);
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect((await readOverview()).receivedAt).toBe(seconds(site.now));
    expect(await silent()).toBe(false);
    site.wait(661);
    expect(await silent()).toBe(true);
  });

  it('is never put off for longer than a day, whatever is promised', async () => {
    await registered();
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { nextUpdateBy: '2026-11-23T10:05:00Z' } }))).toBe('ACCEPTED');
    site.wait(86_400);
    expect(await silent()).toBe(false);
    site.wait(60);
    expect(await silent()).toBe(true);
  });
});

describe('a key introduction', () => {
  const TICKS = ['2026-11-22T10:05:00Z', '2026-11-22T10:10:00Z', '2026-11-22T10:15:00Z'] as const;

  it('adds the next key; the one before stays for an hour after the first UPDATE under it', async () => {
    await registered();
    const old = backend.tenantKey;
    const next = signingKey();
    const keyIntroduction = backend.introduction(site, old, next);
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

  it('is understood in an UPDATE that the next key signs already', async () => {
    await registered();
    const next = signingKey();
    const keyIntroduction = backend.introduction(site, backend.tenantKey, next);
    expect(await site.receive(backend.update(site, TICKS[0], { key: next, body: { keyIntroduction } }))).toBe('ACCEPTED');
    expect((await trusted())?.keys[0]?.jwk).toEqual(next.jwk);
  });

  it('counts in an UPDATE whose tick is late: who has the leaked key cannot hold the next one off', async () => {
    await registered();
    const leaked = backend.tenantKey;
    const next = signingKey();
    const keyIntroduction = backend.introduction(site, leaked, next);
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
    ['signed by a stranger', () => backend.introduction(site, backend.tenantKey, stranger, {}, stranger)],
    ['signed by the tenant key itself', () => backend.introduction(site, backend.tenantKey, stranger, {}, backend.tenantKey)],
    ['for another tenant', () => backend.introduction(site, backend.tenantKey, stranger, { sub: 'zzzzbbbbccccddddeeeeffffgggg2345' })],
    ['for another site', () => backend.introduction(site, backend.tenantKey, stranger, { aud: new Site().cloudId })],
    ['after another key', () => backend.introduction(site, signingKey(), stranger)],
    ['that is over', () => backend.introduction(site, backend.tenantKey, stranger, { iat: 1, exp: 2 })],
    ['without an end', () => backend.introduction(site, backend.tenantKey, stranger, { exp: undefined })],
    ['of a key of small order', () => backend.introduction(site, backend.tenantKey, stranger, { jwk: { kty: 'OKP', crv: 'Ed25519', x: `AQ${'A'.repeat(41)}` } })],
  ])('%s adds nothing', async (_, make) => {
    await registered();
    const keyIntroduction = make();
    expect(await site.receive(backend.update(site, TICKS[0], { key: stranger, body: { keyIntroduction } }))).toBe('UNAUTHORIZED');
    expect(await site.receive(backend.update(site, TICKS[0], { body: { keyIntroduction } }))).toBe('ACCEPTED');
    expect((await trusted())?.keys.map(({ jwk }) => jwk)).toEqual([backend.tenantKey.jwk]);
  });

  it('is understood again after a registration with the key before it', async () => {
    // The backend never heard that its next key was accepted: for it the key before is the present one.
    await registered();
    const old = backend.tenantKey;
    const next = signingKey();
    const update = () => backend.update(site, rfc3339(site.now), { key: next, body: { keyIntroduction: backend.introduction(site, old, next) } });
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
    const keyIntroduction = backend.introduction(site, first, next);
    await site.receive(backend.update(site, TICKS[0], { key: next, body: { keyIntroduction } }));
    site.wait(4000);
    const tick = rfc3339(site.now);
    expect(await site.receive(backend.update(site, tick, { key: first, body: { keyIntroduction } }))).toBe('UNAUTHORIZED');
    expect((await trusted())?.keys[0]?.jwk).toEqual(next.jwk);
  });
});

describe('two callbacks that change what is trusted at once', () => {
  const TICK = '2026-11-22T10:05:00Z';
  const blog = service({ id: 'eeeeffffgggghhhh', name: 'Blog' });
  const keys = async () => (await trusted())?.keys.map(({ jwk }) => jwk);

  /** Has `other` answered between what the next callback reads and what it writes. */
  function overtakenBy(other: Parameters<Site['receive']>[0]): void {
    let overtake = true;
    kvs.beforeOperation = async ({ kind, key }) => {
      if (kind !== 'set' || !key.startsWith('trust:') || !overtake) return;
      overtake = false;
      expect(await site.receive(other)).toBe('ACCEPTED');
    };
  }

  async function secondService() {
    return backend.register(site, await site.handoff(), { body: { service: { ...blog, owner: site.owner } } });
  }

  function underNextKey(next = signingKey()) {
    const body = { keyIntroduction: backend.introduction(site, backend.tenantKey, next), services: [] };
    return { next, update: backend.update(site, TICK, { key: next, body }) };
  }

  it('keep the next key when a registration is overtaken by the first UPDATE under it', async () => {
    await registered();
    const { next, update } = underNextKey();
    const registration = await secondService();
    overtakenBy(update);
    expect(await site.receive(registration)).toBe('ACCEPTED');
    expect(await keys()).toEqual([next.jwk, backend.tenantKey.jwk]);
    expect((await trusted())?.registered.map((entry) => entry.service.name)).toEqual(['Shop', 'Blog']);
  });

  it('keep the service when the first UPDATE under the next key is overtaken by a registration', async () => {
    await registered();
    const { next, update } = underNextKey();
    overtakenBy(await secondService());
    expect(await site.receive(update)).toBe('ACCEPTED');
    expect(await keys()).toEqual([next.jwk, backend.tenantKey.jwk]);
    expect((await trusted())?.registered.map((entry) => entry.service.name)).toEqual(['Shop', 'Blog']);
  });

  it('keep two services that are registered together', async () => {
    await registered();
    const third = service({ id: 'iiiijjjjkkkkllll', name: 'Wiki', owner: site.owner });
    const registration = backend.register(site, await site.handoff(), { body: { service: third } });
    overtakenBy(await secondService());
    expect(await site.receive(registration)).toBe('ACCEPTED');
    expect((await trusted())?.registered.map((entry) => entry.service.name)).toEqual(['Shop', 'Blog', 'Wiki']);
  });

  it('do not bring back a key that a fresh hand-off replaces meanwhile', async () => {
    await registered();
    const { update } = underNextKey();
    site.wait(1);
    const older = backend.register(site, await site.handoff(), { body: { jwk: signingKey().jwk } });
    site.wait(1);
    const replacement = signingKey();
    const replacing = async () => backend.register(site, await site.handoff(), { body: { jwk: replacement.jwk } });
    overtakenBy(await replacing());
    expect(await site.receive(older)).toBe('KEY_CONFLICT');
    expect(await keys()).toEqual([replacement.jwk]);

    kvs.clear();
    await registered();
    site.wait(1);
    overtakenBy(await replacing());
    expect(await site.receive(update)).toBe('ACCEPTED');
    expect(await keys()).toEqual([replacement.jwk]);
  });

  it('leave nothing behind an app that is being uninstalled', async () => {
    await registered();
    const { update } = underNextKey();
    let uninstall = true;
    kvs.beforeOperation = async ({ kind, key }) => {
      if (kind !== 'set' || !key.startsWith('trust:') || !uninstall) return;
      uninstall = false;
      await forgetEverything();
    };
    await site.receive(update);
    expect(await trusted()).toBeUndefined();
  });
});

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
  ])('%s = %s is answered NOT_CONFIGURED', async (name, value) => {
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

it('reads nothing from the store for a request that no key could make good', async () => {
  await registered();
  const { headers, body } = backend.update(site, '2026-11-22T10:05:00Z', { sentBody: '{}' });
  expect(await site.receive({ headers, body })).toBe('UNAUTHORIZED');
  expect(await site.receive({ headers: {}, body })).toBe('UNAUTHORIZED');
  expect(await site.receive({ headers: { authorization: ['Bearer a.b.c'] }, body })).toBe('UNAUTHORIZED');
  expect(kvs.operations).toEqual([]);
});

it('answers an invocation without a site with RETRY', async () => {
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
