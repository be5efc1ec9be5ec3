import { getAppContext, webTrigger } from '@forge/api';

import type { Config } from './config';
import { CHANGES, type HandoffSubject, type Management, signHandoff } from './handoff';
import { CALLBACK_TRIGGER } from './installation';
import { readOverview } from './overview';
import { pseudonymOf, rememberRequester } from './owner';

/** Who asks: account and site as the platform says them, never as the page does. */
export interface Requester {
  readonly cloudId: string | undefined;
  readonly accountId: string | undefined;
  /** `https://acme.atlassian.net`; perhaps as the page says it, see {@link wayBack}. */
  readonly siteUrl: string | undefined;
}

export type Link<Problem> = { readonly ok: true; readonly url: string } | { readonly ok: false; readonly problem: Problem };
type NoSubject = 'no-account' | 'no-site';

/** Signs a hand-off for this person on this site, and returns the registration page's URL with it. */
export async function registrationLink(config: Config, requester: Requester, callbackUrl: unknown, now: Date): Promise<Link<NoSubject>> {
  const subject = await subjectOf(requester, callbackUrl, (accountId) => rememberRequester(accountId, now));
  if (typeof subject === 'string') return { ok: false, problem: subject };
  return { ok: true, url: pageWith('register', config, await sign(config, subject, now)) };
}

/** Signs a hand-off to change a service of this person, and returns the URL of the page that asks once more. */
export async function managementLink(
  config: Config, requester: Requester, wish: Readonly<Record<string, unknown>>, now: Date,
): Promise<Link<NoSubject | 'no-service' | 'not-yours'>> {
  const subject = await subjectOf(requester, wish['callbackUrl'], pseudonymOf);
  if (typeof subject === 'string') return { ok: false, problem: subject };
  const { services } = await readOverview();
  const change = CHANGES.find((known) => known === wish['change']);
  const service = services.find(({ id }) => id === wish['serviceId']);
  if (change === undefined || service === undefined) return { ok: false, problem: 'no-service' };
  // The backend decides by its own record. Here it spares a person the way there.
  if (service.addedBy !== subject.accountId) return { ok: false, problem: 'not-yours' };
  const management: Management = { change, serviceId: service.id, serviceName: service.name, serviceUrl: service.url };
  return { ok: true, url: pageWith('manage', config, await sign(config, { ...subject, ...management }, now)) };
}

function pageWith(page: 'register' | 'manage', { backendUrl }: Config, handoff: string): string {
  return `${backendUrl}/${page}?${new URLSearchParams({ handoff }).toString()}`;
}

/** What every hand-off says of the person and the site. */
async function subjectOf(
  { cloudId, accountId, siteUrl }: Requester, callbackUrl: unknown, pseudonym: (accountId: string) => Promise<string>,
): Promise<HandoffSubject | NoSubject> {
  // Anonymous visitors and app users have no account: nobody could be asked about what they do.
  if (accountId === undefined || accountId === '') return 'no-account';
  if (cloudId === undefined) return 'no-site';
  const back = wayBack(callbackUrl, siteUrl);
  return {
    cloudId,
    accountId: await pseudonym(accountId),
    triggerUrl: await webTrigger.getUrl(CALLBACK_TRIGGER),
    ...(back !== undefined && { callbackUrl: back }),
  };
}

function sign(config: Config, subject: HandoffSubject & Partial<Management>, now: Date): Promise<string> {
  const parties = { app: getAppContext().appAri.toString(), backendUrl: config.backendUrl };
  return signHandoff(subject, parties, config.handoffKey, now);
}

/**
 * The return URL, if it leads to the site that the page says it is on. Any other is left out, and the person goes on
 * without a link: a tab can be closed.
 *
 * This vouches for nothing. The page proposes the URL, and `siteUrl` may come from the same browser: of a resolver's
 * context the platform sets account, installation and licence only. It keeps a page that is wrong from sending people
 * elsewhere. What keeps a page that lies from it is the backend: it shows a return URL only under atlassian.net,
 * jira.com or a suffix that its operator lists, over https, without credentials or port (docs/protocol.md, section 2).
 */
function wayBack(proposed: unknown, siteUrl: string | undefined): string | undefined {
  if (typeof proposed !== 'string' || proposed.length > 1024 || siteUrl === undefined) return undefined;
  if (!URL.canParse(proposed) || !URL.canParse(siteUrl)) return undefined;
  const [url, site] = [new URL(proposed), new URL(siteUrl)];
  if (url.origin !== site.origin || url.username !== '' || url.password !== '') return undefined;
  return url.protocol === 'https:' || url.hostname === '127.0.0.1' ? url.href : undefined;
}
