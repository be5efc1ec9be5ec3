import { getAppContext, webTrigger } from '@forge/api';

import type { Config } from './config';
import { CHANGES, type HandoffSubject, type Management, signHandoff } from './handoff';
import { CALLBACK_TRIGGER } from './installation';
import { readOverview } from './overview';
import { pseudonymOf } from './owner';

/** Who asks, as the platform says it: never as the page says it. */
export interface Requester {
  readonly cloudId: string | undefined;
  readonly accountId: string | undefined;
  /** `https://acme.atlassian.net`. */
  readonly siteUrl: string | undefined;
}

export type Link<Problem> = { readonly ok: true; readonly url: string } | { readonly ok: false; readonly problem: Problem };
type NoSubject = 'no-account' | 'no-site';

/** Signs a hand-off for this person on this site, and returns the registration page's URL with it. */
export async function registrationLink(config: Config, requester: Requester, callbackUrl: unknown, now: Date): Promise<Link<NoSubject>> {
  const subject = await subjectOf(requester, callbackUrl);
  if (typeof subject === 'string') return { ok: false, problem: subject };
  const handoff = await sign(config, subject, now);
  return { ok: true, url: `${config.backendUrl}/register?${new URLSearchParams({ ...subject, handoff }).toString()}` };
}

/** Signs a hand-off to change a service of this person, and returns the URL of the page that asks once more. */
export async function managementLink(
  config: Config, requester: Requester, wish: Readonly<Record<string, unknown>>, now: Date,
): Promise<Link<NoSubject | 'no-service' | 'not-yours'>> {
  const subject = await subjectOf(requester, wish['callbackUrl']);
  if (typeof subject === 'string') return { ok: false, problem: subject };
  const { services, owners } = await readOverview();
  const change = CHANGES.find((known) => known === wish['change']);
  const service = services.find(({ id }) => id === wish['serviceId']);
  if (change === undefined || service === undefined) return { ok: false, problem: 'no-service' };
  // The backend knows best whose a service is. Here it spares a person the way there; what is not known here is asked there.
  const owner = owners[service.id];
  if (owner !== undefined && owner !== requester.accountId) return { ok: false, problem: 'not-yours' };
  const management: Management = { change, serviceId: service.id, serviceName: service.name, serviceUrl: service.url };
  const handoff = await sign(config, { ...subject, ...management }, now);
  return { ok: true, url: `${config.backendUrl}/manage?${new URLSearchParams({ handoff }).toString()}` };
}

/** What every hand-off says of the person and the site. */
async function subjectOf({ cloudId, accountId, siteUrl }: Requester, callbackUrl: unknown): Promise<HandoffSubject | NoSubject> {
  // Anonymous visitors and app users have no account: nobody could be asked about what they do.
  if (accountId === undefined || accountId === '') return 'no-account';
  if (cloudId === undefined) return 'no-site';
  const back = wayBack(callbackUrl, siteUrl);
  return {
    cloudId,
    accountId: await pseudonymOf(accountId),
    triggerUrl: await webTrigger.getUrl(CALLBACK_TRIGGER),
    ...(back !== undefined && { callbackUrl: back }),
  };
}

function sign(config: Config, subject: HandoffSubject & Partial<Management>, now: Date): Promise<string> {
  const parties = { app: getAppContext().appAri.toString(), backendUrl: config.backendUrl };
  return signHandoff(subject, parties, config.handoffKey, now);
}

/**
 * The way back, if it leads to this very site. The page proposes it, and the page runs in a browser: a link
 * to elsewhere would be shown to the person as the way home, with our signature under it. Any other is left
 * out, and the person goes on without a link: a tab can be closed.
 */
function wayBack(proposed: unknown, siteUrl: string | undefined): string | undefined {
  if (typeof proposed !== 'string' || proposed.length > 1024 || siteUrl === undefined) return undefined;
  if (!URL.canParse(proposed) || !URL.canParse(siteUrl)) return undefined;
  const [url, site] = [new URL(proposed), new URL(siteUrl)];
  if (url.origin !== site.origin || url.username !== '' || url.password !== '') return undefined;
  return url.protocol === 'https:' || url.hostname === '127.0.0.1' ? url.href : undefined;
}
