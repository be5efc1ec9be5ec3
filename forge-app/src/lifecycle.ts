import { readConfig } from './config';
import { ownerSecret } from './owner';
import { forgetEverything } from './store';

/**
 * After an installation or an upgrade: makes the installation's secret, so that the first person who adds a
 * service does not wait for it, and tells the developer's log what is not set up yet.
 */
export async function prepareInstallation(): Promise<void> {
  await ownerSecret();
  const read = readConfig(process.env);
  if (!read.ok) console.warn(`not configured yet; unusable variables: ${read.unusable.join(', ')}`);
}

/**
 * Before an uninstallation: stops believing. The app may not call out, so it cannot tell the backend; but every
 * UPDATE that still arrives is answered UNREGISTERED, and the backend stops when nothing answers any more.
 */
export async function stopTrusting(): Promise<void> {
  await forgetEverything();
}
