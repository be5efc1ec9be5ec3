import { describe, expect, it } from 'vitest';

import type { WebTriggerRequest } from 'forge-callback-verifier';
import { revokeTrust } from '../src/store';
import { signingKey } from '../../../packages/verifier/test/signing';
import { service } from './support/backend';
import { backend, freshInstallation, registered, site, trusted } from './support/installation';
import { kvs } from './support/site';

freshInstallation();

describe('two concurrent callbacks that change what is trusted', () => {
  const TICK = '2026-11-22T10:05:00Z';
  const blog = service({ id: 'eeeeffffgggghhhh', name: 'Blog' });
  const keys = async () => (await trusted())?.keys.map(({ jwk }) => jwk);

  /** Handles `other` between the read and the write of the next callback. */
  function handleFirst(other: WebTriggerRequest): void {
    let first = true;
    kvs.beforeOperation = async ({ kind, key }) => {
      if (kind !== 'set' || !key.startsWith('trust:') || !first) return;
      first = false;
      expect(await site.receive(other)).toBe('ACCEPTED');
    };
  }

  async function secondService() {
    return backend.register(site, await site.handoff(), { body: { service: { ...blog, owner: site.owner } } });
  }

  function underNextKey(next = signingKey()) {
    const body = { keyIntroduction: backend.endorsement(site, backend.tenantKey, next), services: [] };
    return { next, update: backend.update(site, TICK, { key: next, body }) };
  }

  it('keep the next key when its first UPDATE is faster than a registration', async () => {
    await registered();
    const { next, update } = underNextKey();
    const registration = await secondService();
    handleFirst(update);
    expect(await site.receive(registration)).toBe('ACCEPTED');
    expect(await keys()).toEqual([next.jwk, backend.tenantKey.jwk]);
    expect((await trusted())?.registered.map((entry) => entry.service.name)).toEqual(['Shop', 'Blog']);
  });

  it('keep the service when a registration is faster than the first UPDATE under the next key', async () => {
    await registered();
    const { next, update } = underNextKey();
    handleFirst(await secondService());
    expect(await site.receive(update)).toBe('ACCEPTED');
    expect(await keys()).toEqual([next.jwk, backend.tenantKey.jwk]);
    expect((await trusted())?.registered.map((entry) => entry.service.name)).toEqual(['Shop', 'Blog']);
  });

  it('keep two services that are registered together', async () => {
    await registered();
    const third = service({ id: 'iiiijjjjkkkkllll', name: 'Wiki', owner: site.owner });
    const registration = backend.register(site, await site.handoff(), { body: { service: third } });
    handleFirst(await secondService());
    expect(await site.receive(registration)).toBe('ACCEPTED');
    expect((await trusted())?.registered.map((entry) => entry.service.name)).toEqual(['Shop', 'Blog', 'Wiki']);
  });

  it('do not restore a key that a fresh hand-off replaces meanwhile', async () => {
    await registered();
    const { update } = underNextKey();
    site.wait(1);
    const older = backend.register(site, await site.handoff(), { body: { jwk: signingKey().jwk } });
    site.wait(1);
    const replacement = signingKey();
    const replacing = async () => backend.register(site, await site.handoff(), { body: { jwk: replacement.jwk } });
    handleFirst(await replacing());
    expect(await site.receive(older)).toBe('KEY_CONFLICT');
    expect(await keys()).toEqual([replacement.jwk]);

    kvs.clear();
    await registered();
    site.wait(1);
    handleFirst(await replacing());
    expect(await site.receive(update)).toBe('ACCEPTED');
    expect(await keys()).toEqual([replacement.jwk]);
  });

  it('leave nothing trusted when the app is uninstalled meanwhile', async () => {
    await registered();
    const { update } = underNextKey();
    let first = true;
    kvs.beforeOperation = async ({ kind, key }) => {
      if (kind !== 'set' || !key.startsWith('trust:') || !first) return;
      first = false;
      await revokeTrust();
    };
    await site.receive(update);
    expect(await trusted()).toBeUndefined();
  });
});
