import { invoke, requestJira, router, view } from '@forge/bridge';

import type { Change, LinkResult, Owners, PageData } from './data';

/** The page's calls to its resolver and to Jira. */

export function readPage(): Promise<PageData> {
  return invoke<PageData>('readPage') as Promise<PageData>;
}

/** Opens the registration page; Atlassian first asks whether to leave the site. */
export function addService(): Promise<LinkResult> {
  return openBackendPage('addService', {});
}

/** Opens the page that removes, pauses or resumes a service. */
export function manageService(serviceId: string, change: Change): Promise<LinkResult> {
  return openBackendPage('manageService', { serviceId, change });
}

async function openBackendPage(functionKey: string, payload: object): Promise<LinkResult> {
  const { siteUrl, extension } = await view.getContext();
  const location: unknown = extension['location'];
  const returnUrl = typeof location === 'string' ? location : siteUrl;
  const result = (await invoke<LinkResult>(functionKey, { ...payload, returnUrl })) as LinkResult;
  if (result.ok) await router.navigate(result.url);
  return result;
}

/** Names by pseudonym, as far as the app knows the account and Jira shows the visitor its name. */
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
