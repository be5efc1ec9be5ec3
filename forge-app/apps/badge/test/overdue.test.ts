import { describe, expect, it } from 'vitest';

import { readOverview } from '../src/overview';
import { isOverdue } from '../../../page/src/overdue';
import { PERIOD_S, rfc3339, seconds, service } from './support/backend';
import { backend, freshInstallation, registered, site } from './support/installation';

freshInstallation();

describe('a report', () => {
  const overdue = async () => isOverdue(await readOverview(), seconds(site.now));
  const update = (body: object = {}) => site.receive(backend.update(site, rfc3339(site.now), { body }));
  const secondService = async () => {
    const second = service({ id: 'eeeeffffgggghhhh', name: 'Blog', owner: site.owner });
    return site.receive(backend.register(site, await site.handoff(), { body: { service: second } }));
  };

  it('is overdue 60 s after it was due', async () => {
    await registered();
    expect(await update()).toBe('ACCEPTED');
    site.wait(2 * PERIOD_S + 60);
    expect(await overdue()).toBe(false);
    site.wait(1);
    expect(await overdue()).toBe(true);
  });

  it('is due when the last report says, whatever earlier ones said', async () => {
    await registered();
    expect(await update({ nextUpdateBy: '2026-11-22T11:05:12Z' })).toBe('ACCEPTED');
    site.wait(PERIOD_S);
    expect(await update()).toBe('ACCEPTED');
    site.wait(2 * PERIOD_S + 61);
    expect(await overdue()).toBe(true);
  });

  it('stays overdue after a registration', async () => {
    await registered();
    expect(await update()).toBe('ACCEPTED');
    site.wait(1200);
    expect(await overdue()).toBe(true);
    expect(await secondService()).toBe('ACCEPTED');
    expect((await readOverview()).services).toHaveLength(2);
    expect(await overdue()).toBe(true);
    expect(await update()).toBe('ACCEPTED');
    expect(await overdue()).toBe(false);
  });

  it('is overdue two periods and 60 s after the first registration when none comes', async () => {
    const body = { periodS: 600 };
    expect(await site.receive(backend.register(site, await site.handoff(), { body }))).toBe('ACCEPTED');
    expect(await readOverview()).toMatchObject({ receivedAt: seconds(site.now), nextUpdateBy: seconds(site.now) + 1200, periodS: 600 });
    site.wait(1260);
    expect(await secondService()).toBe('ACCEPTED');
    expect(await overdue()).toBe(false);
    site.wait(1);
    expect(await overdue()).toBe(true);
  });

  it('is not due after the last service was removed, until the next registration', async () => {
    await registered();
    site.wait(300);
    expect(await update({ services: [] })).toBe('ACCEPTED');
    site.wait(86_400);
    expect(await overdue()).toBe(false);
    expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
    expect((await readOverview()).receivedAt).toBe(seconds(site.now));
    expect(await overdue()).toBe(false);
    site.wait(661);
    expect(await overdue()).toBe(true);
  });

  it('is overdue a day after the last one at the latest', async () => {
    await registered();
    expect(await site.receive(backend.update(site, '2026-11-22T10:05:00Z', { body: { nextUpdateBy: '2026-11-23T10:05:00Z' } }))).toBe('ACCEPTED');
    site.wait(86_400);
    expect(await overdue()).toBe(false);
    site.wait(60);
    expect(await overdue()).toBe(true);
  });
});
