import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { readConfig } from '../src/config';
import { preUninstall } from '../src/lifecycle';
import { registrationLink } from '../src/link';
import { ownersShown, readOverview } from '../src/overview';
import { accountsOf, LINK_LIFETIME_S, pseudonymOf } from '../src/owner';
import { Backend, PERIOD_S, rfc3339, service } from './support/backend';
import { interleave, randomFrom } from './support/interleaving';
import { kvs, Site } from './support/site';

/** How long the store maps a pseudonym to an account. */
const ALICE = 'account-of-alice';
const BOB = 'account-of-bob';
const HOUR_S = 3600;
const LAG_S = 48 * HOUR_S;
let backend: Backend;
let site: Site;
let alice: string;
let bob: string;

beforeEach(async () => {
  vi.spyOn(console, 'warn').mockReturnValue();
  backend = new Backend();
  site = new Site();
  vi.useFakeTimers({ now: site.now, toFake: ['Date'] });
  site.enter(backend);
  [alice, bob] = [await pseudonymOf(ALICE), await pseudonymOf(BOB)];
});

afterEach(() => {
  vi.useRealTimers();
});

function wait(s: number): void {
  site.wait(s);
  vi.setSystemTime(site.now);
}

/** Presses "Add service": the hand-off in the link. */
async function link(accountId: string): Promise<string> {
  const read = readConfig(process.env);
  if (!read.ok) throw new Error('not configured');
  const result = await registrationLink(read.config, { cloudId: site.cloudId, accountId, siteUrl: 'https://acme.atlassian.net' }, undefined, site.now);
  if (!result.ok) throw new Error(result.problem);
  return new URL(result.url).searchParams.get('handoff') ?? '';
}

const register = (handoff: string, owner: string, fields: object = {}) => backend.register(site, handoff, { body: { service: service({ owner, ...fields }) } });
const report = (...services: Record<string, unknown>[]) => backend.update(site, rfc3339(site.now), { body: { services } });
const known = async (pseudonym: string) => (await accountsOf([pseudonym], site.now))[pseudonym];
const stored = (pseudonym: string) => Object.hasOwn(kvs.contents(), `owner:${pseudonym}`);
const ownerWrites = () => kvs.operations.filter(({ kind, key }) => kind !== 'get' && key.startsWith('owner:')).length;

describe('the mapping from a pseudonym to an account', () => {
  it('ends with the link, though the store returns it for longer', async () => {
    await link(ALICE);
    expect(await known(alice)).toBe(ALICE);
    wait(LINK_LIFETIME_S - 1);
    expect(await known(alice)).toBe(ALICE);
    wait(1);
    expect(await known(alice)).toBeUndefined();
    expect(await kvs.get(`owner:${alice}`)).toBeDefined();
    wait(LAG_S);
    expect(await kvs.get(`owner:${alice}`)).toBeUndefined();
  });

  it('lasts until after the last registration that a link can lead to', async () => {
    const handoff = await link(ALICE);
    wait(899);
    const late = register(handoff, alice);
    wait(359);
    expect(await site.receive(late)).toBe('ACCEPTED');
    expect(await known(alice)).toBe(ALICE);
  });

  it('stays from the registration on, while reports name it', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    for (let days = 0; days < 4; days += 1) {
      wait(24 * HOUR_S);
      expect(await site.receive(report(service({ addedBy: alice })))).toBe('ACCEPTED');
      expect(await known(alice)).toBe(ALICE);
    }
  });

  it('stays until the first report, however late that is', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    wait(3 * LAG_S);
    expect(await known(alice)).toBe(ALICE);
    expect(await site.receive(report(service({ addedBy: alice })))).toBe('ACCEPTED');
    expect(await known(alice)).toBe(ALICE);
  });

  it('stays until the first report when others register meanwhile', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    wait(2 * HOUR_S);
    expect(await site.receive(register(await link(BOB), bob, { id: 'eeeeffffgggghhhh' }))).toBe('ACCEPTED');
    expect((await readOverview()).services).toHaveLength(2);
    wait(LINK_LIFETIME_S + LAG_S);
    expect([await known(alice), await known(bob)]).toEqual([ALICE, BOB]);
  });

  it('ends after the report that names it no longer, and only that one of two', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    const blog = { id: 'eeeeffffgggghhhh' };
    expect(await site.receive(register(await link(BOB), bob, blog))).toBe('ACCEPTED');
    wait(PERIOD_S);
    expect(await site.receive(report(service({ addedBy: alice }), service({ ...blog, addedBy: bob })))).toBe('ACCEPTED');
    wait(PERIOD_S);
    expect(await site.receive(report(service({ ...blog, addedBy: bob })))).toBe('ACCEPTED');
    wait(LINK_LIFETIME_S);
    expect([await known(alice), await known(bob)]).toEqual([undefined, BOB]);
    wait(LAG_S);
    expect([await kvs.get(`owner:${alice}`), await kvs.get(`owner:${bob}`)]).toEqual([undefined, [BOB, null]]);
  });

  it('ends after a report that does not list what was registered', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    wait(PERIOD_S);
    expect(await site.receive(report())).toBe('ACCEPTED');
    wait(LINK_LIFETIME_S);
    expect(await known(alice)).toBeUndefined();
  });

  it('stays when a person has a link open while their last service goes, and uses it', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    wait(PERIOD_S);
    expect(await site.receive(report(service({ addedBy: alice })))).toBe('ACCEPTED');
    const open = await link(ALICE);
    wait(PERIOD_S);
    expect(await site.receive(report())).toBe('ACCEPTED');
    wait(PERIOD_S);
    expect(await site.receive(register(open, alice))).toBe('ACCEPTED');
    wait(PERIOD_S);
    expect(await site.receive(report(service({ addedBy: alice })))).toBe('ACCEPTED');
    wait(LINK_LIFETIME_S + LAG_S);
    expect(await known(alice)).toBe(ALICE);
  });

  it('does not stay for a person when another one added the service first', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    expect(await site.receive(register(await link(BOB), bob, { addedBy: alice }))).toBe('ACCEPTED');
    wait(LINK_LIFETIME_S);
    expect([await known(alice), await known(bob)]).toEqual([ALICE, undefined]);
  });

  it('follows the new owner when a service is removed and added again before the next report', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    wait(PERIOD_S);
    expect(await site.receive(report(service({ addedBy: alice })))).toBe('ACCEPTED');
    wait(61);
    expect(await site.receive(register(await link(BOB), bob))).toBe('ACCEPTED');
    wait(LINK_LIFETIME_S + LAG_S);
    expect([await known(alice), await known(bob)]).toEqual([undefined, BOB]);
  });

  it('costs nothing while reports name the same owners', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    kvs.operations.length = 0;
    for (let ticks = 0; ticks < 5; ticks += 1) {
      wait(PERIOD_S);
      expect(await site.receive(report(service({ addedBy: alice })))).toBe('ACCEPTED');
    }
    expect(kvs.operations.filter(({ key }) => key.startsWith('owner'))).toEqual([]);
    expect(kvs.operations).toHaveLength(15);
  });

  it('is not written anew for a link of a person whose service is shown', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    kvs.operations.length = 0;
    await link(ALICE);
    expect(ownerWrites()).toBe(0);
  });

  it('is prolonged by each link', async () => {
    await link(ALICE);
    wait(LINK_LIFETIME_S - 1);
    await link(ALICE);
    wait(LINK_LIFETIME_S - 1);
    expect(await known(alice)).toBe(ALICE);
  });

  it('is restored by the next link when it was lost', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    await kvs.delete(`owner:${alice}`);
    wait(PERIOD_S);
    expect(await site.receive(report(service({ addedBy: alice })))).toBe('ACCEPTED');
    expect(await known(alice)).toBeUndefined();
    await link(ALICE);
    wait(LINK_LIFETIME_S + LAG_S);
    expect(await known(alice)).toBe(ALICE);
  });

  it('ends when the app is uninstalled', async () => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    await preUninstall();
    wait(LINK_LIFETIME_S);
    expect(await known(alice)).toBeUndefined();
    wait(LAG_S);
    expect(await kvs.get(`owner:${alice}`)).toBeUndefined();
  });

  it('is never written for a pseudonym of another installation', async () => {
    const handoff = await site.handoff({ accountId: 'p-1' });
    expect(await site.receive(register(handoff, 'p-1', { addedBy: 'trust' }))).toBe('ACCEPTED');
    wait(PERIOD_S);
    expect(await site.receive(report(service({ addedBy: 'x'.repeat(128) })))).toBe('ACCEPTED');
    expect(stored('trust') || stored('p-1') || stored('x'.repeat(128))).toBe(false);
  });
});

describe('an UPDATE that is interrupted and repeated', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])('at operation %i ends and keeps the same mappings as one that is not', async (at) => {
    expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
    wait(PERIOD_S);
    expect(await site.receive(report(service({ addedBy: alice })))).toBe('ACCEPTED');
    await link(BOB);
    wait(PERIOD_S);
    const update = report(service({ addedBy: bob }));
    let operations = 0;
    kvs.beforeOperation = () => {
      operations += 1;
      if (operations === at) throw new Error('the store is gone');
    };
    await site.receive(update);
    kvs.beforeOperation = undefined;
    await site.receive(update);
    wait(LINK_LIFETIME_S + LAG_S);
    expect([await known(alice), await known(bob)]).toEqual([undefined, BOB]);
  });
});

describe('callbacks and links at once', () => {
  /** Mappings of owners that are shown have no end, all others do. */
  async function consistent(): Promise<void> {
    const shown = ownersShown(await readOverview());
    for (const pseudonym of [alice, bob]) {
      const entry = kvs.contents()[`owner:${pseudonym}`];
      const until = entry === undefined ? undefined : (JSON.parse(entry) as [string, number | null])[1];
      if (shown.has(pseudonym)) expect(until).toBeNull();
      else expect(until).not.toBeNull();
    }
  }

  it('agree: a registration, the report that no longer lists the last service, a late one, and a new link', async () => {
    for (let seed = 1; seed <= 150; seed += 1) {
      site.enter(backend);
      [alice, bob] = [await pseudonymOf(ALICE), await pseudonymOf(BOB)];
      expect(await site.receive(register(await link(ALICE), alice))).toBe('ACCEPTED');
      wait(PERIOD_S);
      expect(await site.receive(report(service({ addedBy: alice })))).toBe('ACCEPTED');
      const again = register(await link(ALICE), alice, { id: 'eeeeffffgggghhhh' });
      const takenOver = register(await link(BOB), bob);
      wait(PERIOD_S);
      const late = backend.update(site, rfc3339(new Date(site.now.getTime() - 120_000)), { body: { services: [service({ addedBy: bob })] } });
      const callbacks = [again, takenOver, report(), late].map((request) => () => site.receive(request));
      const random = randomFrom(seed);
      const outcomes = await interleave([...callbacks, () => link(ALICE), () => link(BOB)], (waiting) => ({ caller: waiting[Math.floor(random() * waiting.length)] ?? 0, dies: false }));
      expect(outcomes?.every((outcome) => typeof outcome === 'object' && 'result' in outcome && outcome.result !== 'RETRY')).toBe(true);
      await consistent();
    }
  });
});
