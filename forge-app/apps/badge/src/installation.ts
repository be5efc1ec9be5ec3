import type { Config } from './config';

/** The context that Forge passes to a function: the part this app reads. */
export interface InvocationContext {
  readonly installContext?: string | undefined;
  readonly installation?: { readonly contexts?: readonly { readonly cloudId?: string | undefined }[] | undefined } | undefined;
}

/** What it takes to judge one callback. */
export interface CallbackContext {
  readonly config: Config;
  readonly cloudId: string;
  readonly now: Date;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The site's cloud id, lower case: from the installation, else the tail of `ari:cloud:jira::site/<id>`. */
export function cloudIdOf(context: InvocationContext): string | undefined {
  const listed = context.installation?.contexts?.find((entry) => entry.cloudId !== undefined)?.cloudId;
  const cloudId = (listed ?? context.installContext?.split('/').at(-1))?.toLowerCase();
  return cloudId !== undefined && UUID.test(cloudId) ? cloudId : undefined;
}

/** The module key of the web trigger in `manifest.yml`. */
export const CALLBACK_TRIGGER = 'health-callback';
