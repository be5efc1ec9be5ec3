import { getAppContext, webTrigger } from '@forge/api';

import type { Config } from './config';
import { signHandoff } from './handoff';
import { CALLBACK_TRIGGER } from './installation';
import { pseudonymOf } from './owner';

/** Who asks, as the platform says it: never as the page says it. */
export interface Requester {
  readonly cloudId: string | undefined;
  readonly accountId: string | undefined;
  /** `https://acme.atlassian.net`. */
  readonly siteUrl: string | undefined;
}

export type RegistrationLink =
  | { readonly ok: true; readonly url: string }
  | { readonly ok: false; readonly problem: 'no-account' | 'no-site' };

/** Signs a hand-off for this person on this site, and returns the registration page's URL with it. */
export async function registrationLink(config: Config, requester: Requester, callbackUrl: unknown, now: Date): Promise<RegistrationLink> {
  const { cloudId, accountId, siteUrl } = requester;
  // Anonymous visitors and app users have no account: nobody could be asked about what they register.
  if (accountId === undefined || accountId === '') return { ok: false, problem: 'no-account' };
  if (cloudId === undefined) return { ok: false, problem: 'no-site' };
  const back = wayBack(callbackUrl, siteUrl);
  const subject = {
    cloudId,
    accountId: await pseudonymOf(accountId),
    triggerUrl: await webTrigger.getUrl(CALLBACK_TRIGGER),
    ...(back !== undefined && { callbackUrl: back }),
  };
  const parties = { app: getAppContext().appAri.toString(), backendUrl: config.backendUrl };
  const handoff = await signHandoff(subject, parties, config.handoffKey, now);
  return { ok: true, url: `${config.backendUrl}/register?${new URLSearchParams({ ...subject, handoff }).toString()}` };
}

/**
 * The way back, if it leads to this very site. The page proposes it, and the page runs in a browser: a link
 * to elsewhere would be shown to the person as the way home, with our signature under it. Any other is left
 * out, and the registration goes on without a link: a tab can be closed.
 */
function wayBack(proposed: unknown, siteUrl: string | undefined): string | undefined {
  if (typeof proposed !== 'string' || proposed.length > 1024 || siteUrl === undefined) return undefined;
  if (!URL.canParse(proposed) || !URL.canParse(siteUrl)) return undefined;
  const [url, site] = [new URL(proposed), new URL(siteUrl)];
  if (url.origin !== site.origin || url.username !== '' || url.password !== '') return undefined;
  return url.protocol === 'https:' || url.hostname === '127.0.0.1' ? url.href : undefined;
}
