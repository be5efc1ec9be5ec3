/** An installation and its backend, anew for each test, with what the tests of callbacks read and do again and again. */
import { beforeEach, expect, vi } from 'vitest';

import { readTrust, type Trust } from '../../src/store';
import { Backend } from './backend';
import { kvs, Site } from './site';

export let backend: Backend;
export let site: Site;

/** Call it once in a test file. */
export function freshInstallation(): void {
  beforeEach(() => {
    vi.spyOn(console, 'warn').mockReturnValue();
    backend = new Backend();
    site = new Site();
    site.enter(backend);
  });
}

/** Registers a first service, and counts the store's operations from there. */
export async function registered(): Promise<void> {
  expect(await site.receive(backend.register(site, await site.handoff()))).toBe('ACCEPTED');
  kvs.operations.length = 0;
}

export async function trusted(): Promise<Trust | undefined> {
  return (await readTrust()).trust;
}

/** The keys that were written. */
export function writes(): string[] {
  return kvs.operations.filter(({ kind }) => kind === 'set').map(({ key }) => key);
}
