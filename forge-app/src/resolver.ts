import Resolver from '@forge/resolver';

import { readConfig } from './config';
import { cloudIdOf, type InvocationContext } from './installation';
import { readOverview } from './overview';
import { managementLink, registrationLink, type Requester } from './link';
import type { LinkResult, PageData } from './page-data';

/** What Forge adds to a resolver's context; `accountId` comes from the platform, not from the page. */
interface ResolverContext extends InvocationContext {
  readonly cloudId?: string | undefined;
  readonly accountId?: string | undefined;
  readonly siteUrl?: string | undefined;
}

interface ResolverRequest {
  readonly payload: Readonly<Record<string, unknown>>;
  readonly context: ResolverContext;
}

const resolver = new Resolver();

resolver.define('readPage', ({ context }: ResolverRequest): Promise<PageData> => readPage(context, new Date()));
resolver.define('addService', (request: ResolverRequest): Promise<LinkResult> => addService(request, new Date()));
resolver.define('manageService', (request: ResolverRequest): Promise<LinkResult> => manageService(request, new Date()));

/** Everything that the page asks goes through here. */
export const resolve = resolver.getDefinitions();

async function readPage({ accountId }: ResolverContext, now: Date): Promise<PageData> {
  const read = readConfig(process.env);
  if (!read.ok) return { configured: false, unusable: read.unusable };
  const overview = await readOverview();
  return {
    configured: true,
    overview,
    // Whose a service is may have been lost with the app's storage; the backend knows.
    own: overview.services.map(({ id }) => id).filter((id) => accountId !== undefined && (overview.owners[id] ?? accountId) === accountId),
    now: Math.floor(now.getTime() / 1000),
    checkEveryMinutes: read.config.checkEveryMinutes,
  };
}

function addService({ payload, context }: ResolverRequest, now: Date): Promise<LinkResult> {
  const read = readConfig(process.env);
  if (!read.ok) return Promise.resolve({ ok: false, problem: 'not-configured' });
  return registrationLink(read.config, requesterOf(context), payload['callbackUrl'], now);
}

function manageService({ payload, context }: ResolverRequest, now: Date): Promise<LinkResult> {
  const read = readConfig(process.env);
  if (!read.ok) return Promise.resolve({ ok: false, problem: 'not-configured' });
  return managementLink(read.config, requesterOf(context), payload, now);
}

function requesterOf(context: ResolverContext): Requester {
  return { cloudId: cloudIdOf(context), accountId: context.accountId, siteUrl: context.siteUrl };
}
