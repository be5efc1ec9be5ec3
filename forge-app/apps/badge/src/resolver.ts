import Resolver from '@forge/resolver';

import { readConfig } from './config';
import { cloudIdOf, type InvocationContext } from './installation';
import { managementLink, registrationLink, type Requester } from './link';
import { ownersShown, readOverview } from './overview';
import { accountsOf, pseudonymOf } from './owner';
import type { LinkResult, Owners, PageData } from './page-data';

/** The platform sets `accountId` and the installation; the rest may come from the page. */
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
resolver.define('readOwners', (): Promise<Owners> => readOwners(new Date()));
resolver.define('addService', (request: ResolverRequest): Promise<LinkResult> => addService(request, new Date()));
resolver.define('manageService', (request: ResolverRequest): Promise<LinkResult> => manageService(request, new Date()));

/** The entry point of every call of the page. */
export const resolve = resolver.getDefinitions();

async function readPage({ accountId }: ResolverContext, now: Date): Promise<PageData> {
  const read = readConfig(process.env);
  if (!read.ok) return { configured: false, unusable: read.unusable };
  const overview = await readOverview();
  const own = accountId === undefined || overview.services.length === 0 ? undefined : await pseudonymOf(accountId);
  return {
    configured: true,
    overview,
    own: overview.services.filter(({ addedBy }) => addedBy === own).map(({ id }) => id),
    now: Math.floor(now.getTime() / 1000),
  };
}

/** The page calls it when the owners change, not with each poll. */
async function readOwners(now: Date): Promise<Owners> {
  return accountsOf(ownersShown(await readOverview()), now);
}

async function addService({ payload, context }: ResolverRequest, now: Date): Promise<LinkResult> {
  const read = readConfig(process.env);
  if (!read.ok) return { ok: false, problem: 'not-configured' };
  return registrationLink(read.config, requesterOf(context), payload['returnUrl'], now);
}

async function manageService({ payload, context }: ResolverRequest, now: Date): Promise<LinkResult> {
  const read = readConfig(process.env);
  if (!read.ok) return { ok: false, problem: 'not-configured' };
  return managementLink(read.config, requesterOf(context), payload, now);
}

function requesterOf(context: ResolverContext): Requester {
  return { cloudId: cloudIdOf(context), accountId: context.accountId, siteUrl: context.siteUrl };
}
