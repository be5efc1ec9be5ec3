import Resolver from '@forge/resolver';

import { readConfig } from './config';
import { cloudIdOf, type InvocationContext } from './installation';
import { readOverview } from './overview';
import type { AddServiceResult, PageData } from './page-data';
import { registrationLink } from './registration';

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

resolver.define('readPage', (): Promise<PageData> => readPage(new Date()));
resolver.define('addService', (request: ResolverRequest): Promise<AddServiceResult> => addService(request, new Date()));

/** Everything that the page asks goes through here. */
export const resolve = resolver.getDefinitions();

async function readPage(now: Date): Promise<PageData> {
  const read = readConfig(process.env);
  if (!read.ok) return { configured: false, unusable: read.unusable };
  return {
    configured: true,
    overview: await readOverview(),
    now: Math.floor(now.getTime() / 1000),
    checkEveryMinutes: read.config.checkEveryMinutes,
  };
}

function addService({ payload, context }: ResolverRequest, now: Date): Promise<AddServiceResult> {
  const read = readConfig(process.env);
  if (!read.ok) return Promise.resolve({ ok: false, problem: 'not-configured' });
  const requester = { cloudId: cloudIdOf(context), accountId: context.accountId, siteUrl: context.siteUrl };
  return registrationLink(read.config, requester, payload['callbackUrl'], now);
}
