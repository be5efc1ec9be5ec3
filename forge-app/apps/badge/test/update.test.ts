import { describe, expect, it } from 'vitest';

import { readOverview } from '../src/overview';
import { readReport } from '../src/store';
import { service } from './support/backend';
import { backend, freshInstallation, registered, site, writes } from './support/installation';
import { kvs } from './support/site';

freshInstallation();

describe('UPDATE', () => {
  it('before any registration is UNREGISTERED', async () => {
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z'))).toBe('UNREGISTERED');
    expect(writes()).toEqual([]);
  });

  it('costs one write, and replaces the whole state', async () => {
    await registered();
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { services: [service({ status: 'DOWN', held: true })] } }))).toBe('ACCEPTED');
    expect(writes()).toEqual(['report']);
    expect(await readReport()).toMatchObject({
      tick: Date.parse('2026-11-22T10:05:00Z') / 1000,
      services: [{ name: 'Shop', status: 'DOWN', suppressed: true, check: { responseTimeMs: 84, httpStatus: 200 } }],
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

  it('restores a later one that arrives between its read and its write', async () => {
    await registered();
    const early = backend.update(site, '2026-11-22T10:04:00Z');
    const later = backend.update(site, '2026-11-22T10:05:00Z', { body: { services: [service({ status: 'DOWN' })] } });
    let first = true;
    kvs.beforeOperation = async ({ kind, key }) => {
      if (kind !== 'set' || key !== 'report' || !first) return;
      first = false;
      expect(await site.receive(later)).toBe('ACCEPTED');
    };
    expect(await site.receive(early)).toBe('STALE_TICK');
    expect(await readReport()).toMatchObject({ tick: Date.parse('2026-11-22T10:05:00Z') / 1000, services: [{ status: 'DOWN' }] });
  });

  it('keeps each transition once, the newest first', async () => {
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

  it('says for how many ticks a service was not checked, and keeps unknown reasons', async () => {
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
    ['a service without an owner', { services: [service({ addedBy: undefined })] }],
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

  it('gets RETRY while the store fails', async () => {
    await registered();
    kvs.beforeOperation = () => {
      throw new Error('the store is gone');
    };
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z'))).toBe('RETRY');
  });
});
