import { getAppContext, webTrigger } from '@forge/api';

import type { Config } from './config';
import { CHANGES, type HandoffSubject, type ServiceChange, signHandoff } from './handoff';
import { CALLBACK_TRIGGER } from './installation';
import { readOverview } from './overview';
import { pseudonymOf, recordRequester } from './owner';
import type { LinkProblem, LinkResult } from './page-data';

/** The visitor and the site, as the platform names them. */
export interface Requester {
  readonly cloudId: string | undefined;
  readonly accountId: string | undefined;
  /** `https://acme.atlassian.net`; it may come from the page, see {@link returnUrlOf}. */
  readonly siteUrl: string | undefined;
}

/** Signs a hand-off to add a service, and returns the registration page's URL with it. */
export async function registrationLink(config: Config, requester: Requester, returnUrl: unknown, now: Date): Promise<LinkResult> {
  const subject = await subjectOf(requester, returnUrl, (accountId) => recordRequester(accountId, now));
  if (typeof subject === 'string') return { ok: false, problem: subject };
  return { ok: true, url: pageWith('register', config, await sign(config, subject, now)) };
}

/** Signs a hand-off to change one of the requester's services, and returns the URL of the page that asks for confirmation. */
export async function managementLink(config: Config, requester: Requester, payload: Readonly<Record<string, unknown>>, now: Date): Promise<LinkResult> {
  const subject = await subjectOf(requester, payload['returnUrl'], pseudonymOf);
  if (typeof subject === 'string') return { ok: false, problem: subject };
  const { services } = await readOverview();
  const change = CHANGES.find((known) => known === payload['change']);
  const service = services.find(({ id }) => id === payload['serviceId']);
  if (change === undefined || service === undefined) return { ok: false, problem: 'no-service' };
  // The backend decides by its own record. This check spares the person a page that refuses.
  if (service.addedBy !== subject.accountId) return { ok: false, problem: 'not-yours' };
  const serviceChange: ServiceChange = { change, serviceId: service.id, serviceName: service.name, serviceUrl: service.url };
  return { ok: true, url: pageWith('manage', config, await sign(config, { ...subject, ...serviceChange }, now)) };
}

function pageWith(page: 'register' | 'manage', { backendUrl }: Config, handoff: string): string {
  return `${backendUrl}/${page}?${new URLSearchParams({ handoff }).toString()}`;
}

/** The claims about person and site, which every hand-off has. */
async function subjectOf(
  { cloudId, accountId, siteUrl }: Requester, proposedUrl: unknown, pseudonym: (accountId: string) => Promise<string>,
): Promise<HandoffSubject | LinkProblem> {
  // Anonymous visitors and app users have no account, so their services would have no owner.
  if (accountId === undefined || accountId === '') return 'no-account';
  if (cloudId === undefined) return 'no-site';
  const returnUrl = returnUrlOf(proposedUrl, siteUrl);
  return {
    cloudId,
    accountId: await pseudonym(accountId),
    triggerUrl: await webTrigger.getUrl(CALLBACK_TRIGGER),
    ...(returnUrl !== undefined && { callbackUrl: returnUrl }),
  };
}

function sign(config: Config, subject: HandoffSubject & Partial<ServiceChange>, now: Date): Promise<string> {
  const parties = { app: getAppContext().appAri.toString(), backendUrl: config.backendUrl };
  return signHandoff(subject, parties, config.handoffKey, now);
}

/**
 * The return URL that the page proposes, if it is on the page's own site; any other is left out, and the backend shows no link.
 *
 * This stops a page with a bug, not a page that lies: both values may come from the browser, because the platform sets only
 * account, installation and licence of a resolver's context. The backend stops the latter: it links only to atlassian.net,
 * jira.com and hosts that its operator lists (docs/protocol.md, section 2).
 */
function returnUrlOf(proposed: unknown, siteUrl: string | undefined): string | undefined {
  if (typeof proposed !== 'string' || proposed.length > 1024 || siteUrl === undefined) return undefined;
  if (!URL.canParse(proposed) || !URL.canParse(siteUrl)) return undefined;
  const [url, site] = [new URL(proposed), new URL(siteUrl)];
  if (url.origin !== site.origin || url.username !== '' || url.password !== '') return undefined;
  return url.protocol === 'https:' || url.hostname === '127.0.0.1' ? url.href : undefined;
}
