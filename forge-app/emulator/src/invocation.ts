/** How the emulated platform calls the app's resolver: what the page says, and what the platform knows, apart. */
import { resolve } from '../../apps/badge/src/resolver';
import { installed } from './platform/installation';

export interface Visitor {
  readonly accountId: string;
  /** Origin of the site. */
  readonly siteUrl: string;
}

export function invokeResolver(functionKey: string, payload: Record<string, unknown>, { accountId, siteUrl }: Visitor): Promise<unknown> {
  const { cloudId } = installed();
  const platform = {
    installContext: `ari:cloud:jira::site/${cloudId}`,
    installation: { contexts: [{ cloudId }] },
    principal: { accountId },
  };
  return resolve({ call: { functionKey, payload }, context: { cloudId, siteUrl } }, platform);
}
