import { beforeEach, describe, expect, it, vi } from 'vitest';

import type { Service } from '../src/service';
import { replaceValue } from '../src/kvs';
import { changeTrust, revokeTrust, readTrust, TooManyChangesError, type Trust, type TrustChange } from '../src/store';
import { signingKey } from '../../../packages/verifier/test/signing';
import { Backend, rfc3339, service } from './support/backend';
import { type Caller, everyInterleaving, interleave, randomFrom } from './support/interleaving';
import { kvs, Site } from './support/site';

/** Concurrent changes of `trust`, in every order of the store's operations. */
const FIRST = signingKey().jwk;
const NEXT = signingKey().jwk;
const NOW_S = 1_795_000_000;

function trustOf(names: readonly string[]): Trust {
  return { tenantId: 'tenant', keys: [{ jwk: FIRST }], handoff: { jti: 'j', iat: 1 }, registered: names.map(registered) };
}

function registered(name: string) {
  const added: Service = { id: name, name, url: 'https://shop.example/', status: 'ALIVE', suppressed: false, addedBy: 'p-alice', since: undefined, check: undefined, unseenTicks: undefined };
  return { service: added, registeredAt: NOW_S, periodS: 300 };
}

const adding = (name: string): TrustChange => (present) =>
  present === undefined ? trustOf([name]) : { ...present, registered: [...present.registered.filter((entry) => entry.service.id !== name), registered(name)] };
const rotating: TrustChange = (present) => (present === undefined ? 'unchanged' : { ...present, keys: [{ jwk: NEXT }, { jwk: FIRST, until: NOW_S }] });
const callback = (change: TrustChange): Caller => async () => changeTrust(await readTrust(), change);
const names = async () => (await readTrust()).trust?.registered.map((entry) => entry.service.id).sort();

beforeEach(() => {
  kvs.clear();
});

describe('three changes at once, in every order', () => {
  it('all count when the store is empty', async () => {
    const start = () => Promise.resolve(['a', 'b', 'c'].map((name) => callback(adding(name))));
    const runs = await everyInterleaving(start, async () => expect(await names()).toEqual(['a', 'b', 'c']));
    expect(runs).toBeGreaterThan(100);
  });

  it('all count when two are registrations and one is a next key', async () => {
    const start = async () => {
      await changeTrust(await readTrust(), adding('before'));
      return [callback(adding('a')), callback(rotating), callback(adding('b'))];
    };
    await everyInterleaving(start, async () => {
      expect(await names()).toEqual(['a', 'b', 'before']);
      expect((await readTrust()).trust?.keys.map(({ jwk }) => jwk)).toEqual([NEXT, FIRST]);
      expect((await readTrust()).changes).toBe(4);
    });
  });

  it('of which one is the uninstallation leave nothing from before it', async () => {
    const start = async () => {
      await changeTrust(await readTrust(), adding('before'));
      return [callback(adding('a')), () => revokeTrust(), callback(rotating)];
    };
    await everyInterleaving(start, async () => {
      expect((await names()) ?? []).not.toContain('before');
      expect((await readTrust()).changes).toBeGreaterThanOrEqual(3);
    });
  });

  it('are not lost when a callback dies at any point', async () => {
    const start = () => Promise.resolve(['a', 'b', 'c'].map((name) => callback(adding(name))));
    await everyInterleaving(start, async (outcomes) => {
      await changeTrust(await readTrust(), adding('d'));
      const completed = ['a', 'b', 'c'].filter((_, at) => outcomes[at] !== 'died');
      expect(await names()).toEqual(expect.arrayContaining([...completed, 'd']));
    }, [0]);
  });
});

describe('many changes at once', () => {
  it.each([5, 12, 32])('%i all count, in random orders', async (count) => {
    for (let seed = 1; seed <= 40; seed += 1) {
      kvs.clear();
      const random = randomFrom(seed);
      const all = Array.from({ length: count }, (_, at) => `service ${String(at).padStart(2, '0')}`);
      const outcomes = await interleave(all.map((name) => callback(adding(name))), (waiting) => ({ caller: waiting[Math.floor(random() * waiting.length)] ?? 0, dies: false }));
      expect(outcomes?.filter((outcome) => typeof outcome === 'object' && 'failed' in outcome)).toEqual([]);
      expect(await names()).toEqual(all);
    }
  });

  it('beyond the bound are refused, and change nothing', async () => {
    const before = await readTrust();
    for (let others = 0; others < 32; others += 1) await changeTrust(await readTrust(), adding(`other ${String(others)}`));
    const stored = JSON.stringify(kvs.contents());
    await expect(changeTrust(before, adding('late'))).rejects.toThrow(TooManyChangesError);
    expect(JSON.stringify(kvs.contents())).toBe(stored);
  });
});

describe('callbacks at once', () => {
  let backend: Backend;
  let site: Site;

  beforeEach(() => {
    vi.spyOn(console, 'warn').mockReturnValue();
    backend = new Backend();
    site = new Site();
    site.enter(backend);
  });

  /** Completes the store's pending operations in a random order. */
  async function shuffled<T>(seed: number, work: () => Promise<T>): Promise<T> {
    const random = randomFrom(seed);
    const waiting: (() => void)[] = [];
    let over = false;
    kvs.beforeOperation = () => new Promise((go) => waiting.push(go));
    const pump = (): void => {
      waiting.splice(Math.floor(random() * waiting.length), 1)[0]?.();
      if (!over) setImmediate(pump);
    };
    pump();
    try {
      return await work();
    } finally {
      over = true;
      kvs.beforeOperation = undefined;
    }
  }

  it('of eleven registrations and a first report under the next key all count', async () => {
    for (let seed = 1; seed <= 8; seed += 1) {
      kvs.clear();
      expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
      const next = signingKey();
      const keyIntroduction = backend.endorsement(site, backend.tenantKey, next);
      const ids = Array.from('efghijklmno', (letter) => `aaaabbbbccccddd${letter}`);
      const registrations = await Promise.all(ids.map(async (id) => backend.register(site, await site.handoff(), { body: { service: service({ id, owner: site.owner }) } })));
      const update = backend.update(site, '2026-11-22T10:05:00Z', { key: next, body: { keyIntroduction } });
      const codes = await shuffled(seed, () => Promise.all([...registrations, update].map((request) => site.receive(request))));
      expect(new Set(codes)).toEqual(new Set(['ACCEPTED']));
      const { trust } = await readTrust();
      expect(trust?.registered.map((entry) => entry.service.id).sort()).toEqual([...ids, 'aaaabbbbccccdddd'].sort());
      expect(trust?.keys.map(({ jwk }) => jwk)).toEqual([next.jwk, backend.tenantKey.jwk]);
    }
  });

  it('under a key whose change was made and not published are accepted', async () => {
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    const stored = kvs.contents()['trust'] ?? '';
    const next = signingKey();
    const rotation = await site.handoff({ at: new Date(site.now.getTime() + 1000) });
    expect(await site.receive(backend.register(site, rotation, { body: { jwk: next.jwk } }))).toBe('ACCEPTED');
    // Another callback wrote the earlier change over the later one, and ended before it put that back.
    await replaceValue<unknown>('trust', JSON.parse(stored));
    expect((await readTrust()).trust?.keys.map(({ jwk }) => jwk)).not.toEqual([next.jwk]);
    expect(await site.receive(backend.update(site, rfc3339(site.now), { key: next }))).toBe('ACCEPTED');
    expect((await readTrust()).trust?.keys.map(({ jwk }) => jwk)).toEqual([next.jwk]);
  });

  it('get RETRY when others are always faster, and count when they are repeated', async () => {
    const registration = backend.register(site, await site.handoff());
    kvs.beforeOperation = async ({ kind, key }) => {
      if (kind !== 'set' || !key.startsWith('trust:')) return;
      const { beforeOperation } = kvs;
      kvs.beforeOperation = undefined;
      await changeTrust(await readTrust(), (present) => present ?? { ...trustOf([]), tenantId: site.tenantId });
      kvs.beforeOperation = beforeOperation;
    };
    expect(await site.receive(registration)).toBe('RETRY');
    expect((await readTrust()).trust?.registered).toEqual([]);
    kvs.beforeOperation = undefined;
    expect(await site.receive(registration)).toBe('DUPLICATE');
    expect((await readTrust()).trust?.registered).toHaveLength(1);
    expect(vi.mocked(console.warn).mock.calls.flat().join('\n')).toContain('TooManyChangesError');
    expect(await site.receive(backend.update(site, rfc3339(site.now)))).toBe('ACCEPTED');
  });
});
