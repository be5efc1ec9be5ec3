/** For which installation the emulated platform runs code. */
import { AsyncLocalStorage } from 'node:async_hooks';

export interface Installation {
  /** UUID of the site. */
  readonly cloudId: string;
  /** UUID of the app. */
  readonly appId: string;
  /** URL of each web trigger by its module key. */
  readonly triggerUrls: Readonly<Record<string, string>>;
}

let current: Installation | undefined;
const running = new AsyncLocalStorage<Installation>();

/** Decides where the app's code runs from now on. */
export function install(installation: Installation): void {
  current = installation;
}

/** Runs code of the app for one of several installations; what it awaits runs there as well. */
export function within<T>(installation: Installation, run: () => T): T {
  return running.run(installation, run);
}

/** @throws Error when nothing is installed: code of the app ran outside an invocation */
export function installed(): Installation {
  const installation = running.getStore() ?? current;
  if (installation === undefined) throw new Error('Forge runtime not found.');
  return installation;
}
