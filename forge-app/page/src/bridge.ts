import { invoke, requestJira, router, view } from '@forge/bridge';

import type { Change, LinkResult, Owners, PageData } from './data';

/** What the page asks its resolver and the site it is shown on. */

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

/** Names by pseudonym, as the person who looks may see them; without those that the app or Jira does not know. */
export async function readNames(): Promise<ReadonlyMap<string, string>> {
  try {
    const owners = (await invoke<Owners>('readOwners')) as Owners;
    const accountIds = [...new Set(Object.values(owners))];
    if (accountIds.length === 0) return new Map();
    const query = accountIds.map((id) => `accountId=${encodeURIComponent(id)}`).join('&');
    const response = await requestJira(`/rest/api/3/user/bulk?maxResults=${String(accountIds.length)}&${query}`);
    if (!response.ok) return new Map();
    const { values } = (await response.json()) as { values: readonly { accountId: string; displayName: string }[] };
    const names = new Map(values.map(({ accountId, displayName }) => [accountId, displayName]));
    return new Map(Object.entries(owners).flatMap(([pseudonym, account]) => {
      const name = names.get(account);
      return name === undefined ? [] : [[pseudonym, name]];
    }));
  } catch {
    return new Map();
  }
}
