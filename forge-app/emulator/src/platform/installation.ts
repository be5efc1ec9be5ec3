/** The installation for which the emulated platform runs the app's code. */
import { AsyncLocalStorage } from 'node:async_hooks';

export interface Installation {
  /** UUID of the site. */
  readonly cloudId: string;
  /** UUID of the app. */
  readonly appId: string;
  /** URL of each web trigger by its module key. */
  readonly triggerUrls: Readonly<Record<string, string>>;
}

/** The context that Forge passes to a function. */
export function invocationContext(cloudId: string) {
  return { installContext: `ari:cloud:jira::site/${cloudId}`, installation: { contexts: [{ cloudId }] } };
}

let current: Installation | undefined;
const running = new AsyncLocalStorage<Installation>();

/** Runs the app's code for this installation from now on. */
export function install(installation: Installation): void {
  current = installation;
}

/** Runs the app's code for one of several installations, with everything that it awaits. */
export function within<T>(installation: Installation, run: () => T): T {
  return running.run(installation, run);
}

/** @throws Error outside an invocation */
export function installed(): Installation {
  const installation = running.getStore() ?? current;
  if (installation === undefined) throw new Error('Forge runtime not found.');
  return installation;
}
