import { readConfig } from './config';
import { ownersShown, readOverview } from './overview';
import { ownerSecret, reconcileOwners } from './owner';
import { revokeTrust } from './store';

/**
 * After an installation or an upgrade: creates the installation's secret, so that the first person who adds a service does
 * not wait for it, and logs which variables are missing.
 */
export async function installed(): Promise<void> {
  await ownerSecret();
  const read = readConfig(process.env);
  if (!read.ok) console.warn(`not configured yet; unusable variables: ${read.unusable.join(', ')}`);
}

/**
 * Before an uninstallation: trusts no key any more, and ends every mapping to an account. The app cannot call out, so the
 * backend is not informed: its UPDATEs get UNREGISTERED, and it suspends the tenant once the trigger is gone.
 */
export async function preUninstall(): Promise<void> {
  const owners = ownersShown(await readOverview());
  await revokeTrust();
  await reconcileOwners(owners, new Date());
}
