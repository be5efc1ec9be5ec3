import { invoke, requestJira, router, view } from '@forge/bridge';

import type { Change } from '../../../src/handoff';
import type { LinkResult, PageData } from '../../../src/page-data';

/** The page's questions to its resolver and to the site it is shown on. */

export function readPage(): Promise<PageData> {
  return invoke<PageData>('readPage') as Promise<PageData>;
}

/** Asks for a registration link and goes there; the site asks the person whether to leave. */
export function addService(): Promise<LinkResult> {
  return leave('addService', {});
}

/** The same for the page that removes, pauses or resumes a service. */
export function manageService(serviceId: string, change: Change): Promise<LinkResult> {
  return leave('manageService', { serviceId, change });
}

async function leave(question: string, payload: object): Promise<LinkResult> {
  const { siteUrl, extension } = await view.getContext();
  const location: unknown = extension['location'];
  const callbackUrl = typeof location === 'string' ? location : siteUrl;
  const result = (await invoke<LinkResult>(question, { ...payload, callbackUrl })) as LinkResult;
  if (result.ok) await router.navigate(result.url);
  return result;
}

/** Names by account id, as the person who looks may see them; empty when Jira does not tell. */
export async function readNames(accountIds: readonly string[]): Promise<ReadonlyMap<string, string>> {
  if (accountIds.length === 0) return new Map();
  try {
    const query = accountIds.map((id) => `accountId=${encodeURIComponent(id)}`).join('&');
    const response = await requestJira(`/rest/api/3/user/bulk?maxResults=${String(accountIds.length)}&${query}`);
    if (!response.ok) return new Map();
    const { values } = (await response.json()) as { values: readonly { accountId: string; displayName: string }[] };
    return new Map(values.map(({ accountId, displayName }) => [accountId, displayName]));
  } catch {
    return new Map();
  }
}
