/** Calls the app's resolver as the platform does: the page's data and the platform's are separate. */
import { resolve } from '../../apps/badge/src/resolver';
import { installed, invocationContext } from './platform/installation';

export interface Visitor {
  readonly accountId: string;
  /** Origin of the site. */
  readonly siteUrl: string;
}

export function invokeResolver(functionKey: string, payload: Record<string, unknown>, { accountId, siteUrl }: Visitor): Promise<unknown> {
  const { cloudId } = installed();
  return resolve({ call: { functionKey, payload }, context: { cloudId, siteUrl } }, { ...invocationContext(cloudId), principal: { accountId } });
}
