import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';

import { ForgeKvsAPIError, type Nothing, NOTHING } from '../../../emulator/src/platform/kvs';
import { invocationContext } from '../../../emulator/src/platform/installation';
import { handleKvsRequest } from '../../../emulator/src/platform/kvs-http';
import type * as App from '../src/index';
import type { LinkResult } from '../src/page-data';
import { Backend, rfc3339, service } from './support/backend';
import { kvs, Site } from './support/site';

/**
 * The app bundled with Atlassian's own packages, not with the emulated ones. Below them is the platform's wire: the key-value
 * store's REST interface and GraphQL, as those packages call them, served from the emulator's store.
 */
let folder: string;
let app: typeof App;
let backend: Backend;
let site: Site;
const paths: string[] = [];
/** The body for a key without a value; without it 404. */
let absent: string | undefined;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'forge-app-'));
  const outfile = join(folder, 'index.cjs');
  Object.assign(globalThis, { __forge_fetch__: platformFetch, __forge_runtime__: runtime(() => site) });
  await build({ entryPoints: [fileURLToPath(new URL('../src/index.ts', import.meta.url))], outfile, bundle: true, platform: 'node', format: 'cjs', target: 'node20', logLevel: 'error' });
  app = createRequire(import.meta.url)(outfile) as typeof App;
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

beforeEach(() => {
  vi.spyOn(console, 'warn').mockReturnValue();
  backend = new Backend();
  site = new Site();
  site.now = new Date();
  site.enter(backend);
  paths.length = 0;
  absent = undefined;
});

const context = () => invocationContext(site.cloudId);

async function handoff(): Promise<string> {
  const result = (await app.resolve(
    { call: { functionKey: 'addService', payload: { returnUrl: 'https://acme.atlassian.net/jira' } }, context: { siteUrl: 'https://acme.atlassian.net' } },
    { ...context(), principal: { accountId: 'account-of-alice' } },
  )) as LinkResult;
  if (!result.ok) throw new Error(result.problem);
  return new URL(result.url).searchParams.get('handoff') ?? '';
}

const ownerOf = (given: string) => decodeJwt(given)['accountId'];

describe('with Atlassian\'s packages, the app', () => {
  it('registers, updates, and recognises repeats', async () => {
    const given = await handoff();
    const register = backend.register(site, given, { body: { service: service({ owner: ownerOf(given) }) } });
    expect(await app.callback(register, context())).toEqual({ outputKey: 'ACCEPTED' });
    expect(await app.callback(register, context())).toEqual({ outputKey: 'DUPLICATE' });
    const other = backend.register(site, given, { body: { service: service({ id: 'eeeeffffgggghhhh', owner: ownerOf(given) }) } });
    expect(await app.callback(other, context())).toEqual({ outputKey: 'HANDOFF_USED' });

    paths.length = 0;
    const update = backend.update(site, rfc3339(site.now));
    expect(await app.callback(update, context())).toEqual({ outputKey: 'ACCEPTED' });
    expect(paths).toEqual(['/api/v1/get', '/api/v1/get', '/api/v1/set']);
    expect(await app.callback(update, context())).toEqual({ outputKey: 'DUPLICATE' });
    const earlier = rfc3339(new Date(site.now.getTime() - 60_000));
    expect(await app.callback(backend.update(site, earlier), context())).toEqual({ outputKey: 'STALE_TICK' });
  });

  it.each(Object.keys(NOTHING) as Nothing[])('reads %j as no value before the first registration and the first report', async (nothing) => {
    kvs.nothing = nothing;
    const given = await handoff();
    const register = backend.register(site, given, { body: { service: service({ owner: ownerOf(given) }) } });
    expect(await app.callback(register, context())).toEqual({ outputKey: 'ACCEPTED' });
    expect(await app.callback(backend.update(site, rfc3339(site.now)), context())).toEqual({ outputKey: 'ACCEPTED' });
  });

  it.each(['null', '{}', '{"value":null}', '{"key":"trust","value":null}'])('reads %j as a key without a value', async (body) => {
    absent = body;
    expect(await app.callback(backend.update(site, rfc3339(site.now)), context())).toEqual({ outputKey: 'UNREGISTERED' });
    const given = await handoff();
    const register = backend.register(site, given, { body: { service: service({ owner: ownerOf(given) }) } });
    expect(await app.callback(register, context())).toEqual({ outputKey: 'ACCEPTED' });
    expect(await app.callback(backend.update(site, rfc3339(site.now)), context())).toEqual({ outputKey: 'ACCEPTED' });
  });

  it('responds RETRY when the platform fails, and trusts no key before it is uninstalled', async () => {
    const given = await handoff();
    const register = backend.register(site, given, { body: { service: service({ owner: ownerOf(given) }) } });
    kvs.beforeOperation = () => {
      throw new ForgeKvsAPIError({ status: 429, statusText: '' }, { code: 'RATE_LIMIT_EXCEEDED', message: 'too many' });
    };
    expect(await app.callback(register, context())).toEqual({ outputKey: 'RETRY' });
    kvs.beforeOperation = undefined;
    expect(await app.callback(register, context())).toEqual({ outputKey: 'ACCEPTED' });
    await app.preUninstall();
    expect(await app.callback(backend.update(site, rfc3339(site.now)), context())).toEqual({ outputKey: 'UNREGISTERED' });
  });
});

it('tsconfig.json lets Forge\'s bundler emit: with "noEmit" its ts-loader fails', () => {
  for (const file of ['../tsconfig.json', '../../../tsconfig.base.json']) expect(readFileSync(new URL(file, import.meta.url), 'utf8')).not.toContain('noEmit');
});

async function platformFetch(_target: unknown, path: string, init: { body: string }): Promise<Response> {
  paths.push(path);
  const body = JSON.parse(init.body) as unknown;
  if (path.endsWith('/graphql')) return Response.json({ data: { createWebTriggerUrl: { url: site.triggerUrl } } });
  return handleKvsRequest(kvs, path, body, absent);
}

/** What Forge's runtime gives to `@forge/api`. */
function runtime(current: () => Site) {
  const metrics = { counter: () => ({ incr: () => undefined }), timing: () => ({ measure: () => ({ stop: () => undefined }) }) };
  return {
    metrics,
    contextAri: 'ari:cloud:jira::site/x',
    lambdaContext: { getRemainingTimeInMillis: () => 55_000 },
    get appContext() {
      return { appId: current().app.id, environmentId: 'e', installationId: 'i', appVersion: '1', environmentType: 'DEVELOPMENT', invocationId: 'x', moduleKey: 'm' };
    },
  };
}
