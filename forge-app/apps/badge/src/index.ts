import type { WebTriggerRequest } from 'forge-callback-verifier';

import type { InvocationContext } from './installation';
import { prepareInstallation, stopTrusting } from './lifecycle';
import type { StaticOutput } from './outputs';
import { receive } from './receiver';

/** The functions that `manifest.yml` names. */
export { resolve } from './resolver';

/** The web trigger `health-callback`. */
export function callback(request: WebTriggerRequest, context: InvocationContext): Promise<StaticOutput> {
  return receive(request, context, new Date());
}

/** Forge's events `installed` and `upgraded`. */
export const installed = prepareInstallation;

export const preUninstall = stopTrusting;
