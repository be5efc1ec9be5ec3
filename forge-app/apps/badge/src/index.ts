/** The functions that `manifest.yml` names. */
import type { WebTriggerRequest } from 'forge-callback-verifier';

import type { InvocationContext } from './installation';
import { receive } from './receiver';
import type { StaticOutput } from './responses';

export { installed, preUninstall } from './lifecycle';
export { resolve } from './resolver';

/** The web trigger `health-callback`. */
export function callback(request: WebTriggerRequest, context: InvocationContext): Promise<StaticOutput> {
  return receive(request, context, new Date());
}
