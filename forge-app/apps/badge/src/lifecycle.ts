import { readConfig } from './config';
import { ownersShown, readOverview } from './overview';
import { ownerSecret, settleOwners } from './owner';
import { forgetEverything } from './store';

/**
 * After an installation or an upgrade: makes the installation's secret, so that the first person who adds a
 * service does not wait for it, and logs what is not set up yet.
 */
export async function prepareInstallation(): Promise<void> {
  await ownerSecret();
  const read = readConfig(process.env);
  if (!read.ok) console.warn(`not configured yet; unusable variables: ${read.unusable.join(', ')}`);
}

/**
 * Before an uninstallation: stops believing, and ends the way back to every account. The app may not call out, so the
 * backend is not informed; but every UPDATE that still arrives is answered UNREGISTERED, and the backend stops when
 * nothing responds any more.
 */
export async function stopTrusting(): Promise<void> {
  const named = ownersShown(await readOverview());
  await forgetEverything();
  await settleOwners(named, new Date());
}
