/** The one installation that the stand-in platform runs code for. */
export interface Installation {
  /** UUID of the site. */
  readonly cloudId: string;
  /** UUID of the app. */
  readonly appId: string;
  /** URL of each web trigger by its module key. */
  readonly triggerUrls: Readonly<Record<string, string>>;
}

let current: Installation | undefined;

/** Decides where the app's code runs from now on. */
export function install(installation: Installation): void {
  current = installation;
}

/** @throws Error when nothing is installed: code of the app ran outside an invocation */
export function installed(): Installation {
  if (current === undefined) throw new Error('Forge runtime not found.');
  return current;
}
