import type { webTrigger as realWebTrigger } from '@forge/api';
import type { kvs as realKvs } from '@forge/kvs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { webTrigger } from '../../../emulator/src/platform/api';
import { install } from '../../../emulator/src/platform/installation';
import { ForgeKvsAPIError, kvs, type Nothing, NOTHING } from '../../../emulator/src/platform/kvs';

/** The emulator must stay callable wherever the app calls the real package: checked by the compiler. */
type Used = 'get' | 'set' | 'delete' | 'getSecret' | 'setSecret' | 'deleteSecret';
type ParametersOf<T, Name extends Used & keyof T> = T[Name] extends (...args: infer A) => unknown ? A : never;
const accepts = <Name extends Used>(name: Name, ...args: ParametersOf<typeof realKvs, Name>) =>
  (kvs[name] as (...all: unknown[]) => Promise<unknown>)(...args);

beforeEach(() => {
  kvs.clear();
  vi.useFakeTimers({ now: new Date('2026-11-22T10:05:10Z'), toFake: ['Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('the emulated key-value store', () => {
  it('keeps a copy of a value, and secrets apart', async () => {
    const value = { services: ['a'] };
    await kvs.set('report', value);
    await kvs.setSecret('report', 'secret');
    value.services.push('b');
    expect(await kvs.get('report')).toEqual({ services: ['a'] });
    expect(await kvs.getSecret('report')).toBe('secret');
    await kvs.delete('report');
    expect(await kvs.get('report')).toBeUndefined();
    expect(await kvs.getSecret('report')).toBe('secret');
  });

  it('lets one of many writers win with FAIL_IF_EXISTS', async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 12 }, (_, at) => kvs.set('lock', at, { keyPolicy: 'FAIL_IF_EXISTS' })));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'KEY_CONFLICT', responseDetails: { status: 409 } });
    }
  });

  it('keeps an expired value readable, and in the way, for 48 hours', async () => {
    await kvs.set('lock', 1, { keyPolicy: 'FAIL_IF_EXISTS', ttl: { value: 10, unit: 'MINUTES' } });
    vi.setSystemTime(Date.now() + 600_000 + 48 * 3_600_000 - 1);
    expect(await kvs.get('lock')).toBe(1);
    await expect(kvs.set('lock', 2, { keyPolicy: 'FAIL_IF_EXISTS' })).rejects.toBeInstanceOf(ForgeKvsAPIError);
    vi.setSystemTime(Date.now() + 1);
    expect(await kvs.get('lock')).toBeUndefined();
    await kvs.set('lock', 2, { keyPolicy: 'FAIL_IF_EXISTS' });
    expect(await kvs.get('lock')).toBe(2);
  });

  it('returns the value that an overwrite replaced', async () => {
    for (const nothing of Object.keys(NOTHING) as Nothing[]) {
      kvs.clear();
      kvs.nothing = nothing;
      expect(await accepts('set', 'report', 1, { keyPolicy: 'OVERRIDE', returnValue: 'PREVIOUS' })).toEqual(NOTHING[nothing]);
      expect(await accepts('set', 'report', 2, { keyPolicy: 'OVERRIDE', returnValue: 'PREVIOUS' })).toEqual({ key: 'report', value: 1 });
    }
  });

  it('gives a value no TTL of the value before', async () => {
    await kvs.set('owner', 1, { ttl: { value: 10, unit: 'MINUTES' } });
    await kvs.set('owner', 2);
    vi.setSystemTime(Date.now() + 600_000 + 48 * 3_600_000);
    expect(await kvs.get('owner')).toBe(2);
  });

  it.each([
    ['a TTL of 0 s', { ttl: { value: 0, unit: 'SECONDS' } }],
    ['a TTL of two years', { ttl: { value: 731, unit: 'DAYS' } }],
    ['FAIL_IF_EXISTS with the previous value', { keyPolicy: 'FAIL_IF_EXISTS', returnValue: 'PREVIOUS' }],
  ] as const)('refuses %s', async (_, options) => {
    await expect(kvs.set('report', 1, options)).rejects.toMatchObject({ code: 'INVALID_OPTIONS' });
  });

  it.each([
    ['an empty key', '', 1, 'INVALID_KEY'],
    ['a key with a slash', 'a/b', 1, 'INVALID_KEY'],
    ['a key of 501 characters', 'k'.repeat(501), 1, 'INVALID_KEY'],
    ['a value over 240 KiB', 'report', 'x'.repeat(240 * 1024), 'MAX_SIZE'],
    ['a value that is not JSON', 'report', undefined, 'INVALID_VALUE'],
  ])('refuses %s', async (_, key, value, code) => {
    await expect(kvs.set(key, value)).rejects.toMatchObject({ code });
  });
});

it('the emulator\'s web triggers can be called as the real package\'s', async () => {
  const asReal: Pick<typeof realWebTrigger, 'getUrl'> = webTrigger;
  install({ cloudId: '11111111-2222-4333-8444-555555555555', appId: 'a', triggerUrls: { known: 'https://trigger.example/x1/a' } });
  expect(await asReal.getUrl('known')).toBe('https://trigger.example/x1/a');
  await expect(asReal.getUrl('unknown')).rejects.toThrow('Failed to get web trigger URL');
});
