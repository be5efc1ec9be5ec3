import type { WebTriggerRequest } from 'forge-callback-verifier';

import type { InvocationContext } from './installation';
import type { StaticOutput } from './outputs';
import { receive } from './receiver';

/** The web trigger `health-callback`. */
export function callback(request: WebTriggerRequest, context: InvocationContext): Promise<StaticOutput> {
  return receive(request, context, new Date());
}
