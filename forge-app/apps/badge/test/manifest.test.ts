import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { validate } from '@forge/manifest';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import * as handlers from '../src/index';
import { CALLBACK_TRIGGER } from '../src/installation';
import { OUTPUTS } from '../src/responses';

const APP = fileURLToPath(new URL('..', import.meta.url));

interface Manifest {
  readonly app: { readonly runtime: { readonly name: string } };
  readonly modules: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>>;
  readonly permissions: Readonly<Record<string, unknown>>;
  readonly [section: string]: unknown;
}

const manifest = parse(readFileSync(`${APP}manifest.yml`, 'utf8')) as Manifest;

it('is valid by the rules of the Forge CLI', async () => {
  process.chdir(APP);
  const { success, errors } = await validate(false);
  expect(errors ?? []).toEqual([]);
  expect(success).toBe(true);
}, 60_000);

/** Every way in which data could leave the site costs "Runs on Atlassian". */
export function breachesOfEligibility({ modules, permissions, ...sections }: Manifest): string[] {
  const triggers = modules['webtrigger'] ?? [];
  return [
    ...['remotes', 'providers', 'connectModules', 'services', 'environment'].filter((section) => section in sections),
    ...Object.keys(permissions).filter((kind) => kind !== 'scopes').map((kind) => `permissions.${kind}`),
    ...triggers.filter(({ response }) => (response as { type?: unknown } | undefined)?.type !== 'static').map(({ key }) => `webtrigger ${String(key)} is not static`),
    ...Object.entries(modules).flatMap(([type, entries]) => entries.filter((entry) => 'endpoint' in entry).map(({ key }) => `${type} ${String(key)} has an endpoint`)),
  ];
}

describe('eligibility for "Runs on Atlassian"', () => {
  it('is kept', () => {
    expect(breachesOfEligibility(manifest)).toEqual([]);
  });

  it.each<[string, object, string]>([
    ['a remote', { remotes: [{ key: 'backend', baseUrl: 'https://backend.example' }] }, 'remotes'],
    ['an external permission', { permissions: { scopes: [], external: { fetch: { backend: ['https://backend.example'] } } } }, 'permissions.external'],
    ['a dynamic web trigger', { modules: { webtrigger: [{ key: 'a', function: 'b' }] } }, 'webtrigger a is not static'],
    ['an authentication provider', { providers: { auth: [] } }, 'providers'],
    ['a Connect module', { connectModules: {} }, 'connectModules'],
  ])('would be lost by %s', (_, change, breach) => {
    expect(breachesOfEligibility({ ...manifest, ...change })).toEqual([breach]);
  });
});

describe('the manifest', () => {
  const [trigger] = manifest.modules['webtrigger'] ?? [];

  it('declares the outputs that the code names, within the platform\'s limits', () => {
    expect(trigger).toMatchObject({ key: CALLBACK_TRIGGER, urlFormat: 'v2', response: { type: 'static', outputs: OUTPUTS } });
    expect(OUTPUTS.length).toBeLessThanOrEqual(20);
    for (const { body } of OUTPUTS) expect(body.length).toBeLessThanOrEqual(1024);
  });

  it('names functions that the code exports', () => {
    const named = (manifest.modules['function'] ?? []).map(({ handler }) => String(handler).replace(/^index\./, ''));
    expect(named.sort()).toEqual(Object.keys(handlers).sort());
  });

  it('runs on a supported runtime with no more scopes than it needs', () => {
    expect(manifest.app.runtime.name).toMatch(/^nodejs(22|24)\.x$/);
    expect(manifest.permissions).toEqual({ scopes: ['storage:app', 'read:jira-user'] });
  });
});
