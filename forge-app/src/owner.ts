import { createHmac, randomBytes } from 'node:crypto';

import { createSecret, createValue, readSecret, readValue } from './kvs';

/**
 * Who added a service, without telling the backend.
 *
 * Atlassian account ids are personal data, and an app that never calls out could not ask the backend to erase
 * them. So the backend gets a pseudonym: an HMAC of the account id under a secret of this installation, which is
 * stable (the backend limits services per owner) and means nothing elsewhere. The way back is kept here.
 */
export async function pseudonymOf(accountId: string): Promise<string> {
  const pseudonym = createHmac('sha256', await ownerSecret()).update(accountId).digest('base64url').slice(0, 32);
  await createValue(`owner:${pseudonym}`, accountId);
  return pseudonym;
}

/** The account behind a pseudonym of this installation. */
export async function accountOf(pseudonym: string): Promise<string | undefined> {
  return /^[A-Za-z0-9_-]{32}$/.test(pseudonym) ? readValue<string>(`owner:${pseudonym}`) : undefined;
}

/** The installation's secret, made at its first use; of several makers at once the first wins. */
export async function ownerSecret(): Promise<string> {
  const known = await readSecret('owner-secret');
  if (known !== undefined) return known;
  const made = randomBytes(32).toString('base64url');
  if (await createSecret('owner-secret', made)) return made;
  const stored = await readSecret('owner-secret');
  if (stored === undefined) throw new Error('the store kept no secret');
  return stored;
}
