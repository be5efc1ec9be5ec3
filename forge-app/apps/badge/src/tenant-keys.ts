/** Which tenant keys count: those that are stored, and the next one that the deployment key endorses. */
import { type Ed25519PublicJwk, thumbprint } from 'forge-callback-verifier';

import type { CallbackContext } from './installation';
import { endorsedKey } from './key-endorsement';
import type { Trust, TrustedKey } from './store';

/** How long a tenant key stays valid after the first UPDATE under the next key, in seconds. */
const KEY_OVERLAP_S = 3600;

/** The keys that have not ended. Code that compares or keeps keys starts from these. */
export function liveKeys(trust: Trust, nowS: number): readonly TrustedKey[] {
  return trust.keys.filter(({ until }) => until === undefined || nowS <= until);
}

/** The live keys, and the one that a callback's own key endorsement adds. */
export async function trustedKeys(trust: Trust | undefined, endorsement: unknown, context: CallbackContext): Promise<TrustedKey[]> {
  if (trust === undefined) return [];
  const { config, cloudId, now } = context;
  const keys = [...liveKeys(trust, now.getTime() / 1000)];
  const current = keys[0];
  if (current === undefined || endorsement === undefined) return keys;

  const currentKid = thumbprint(current.jwk);
  const next = await endorsedKey(endorsement, { cloudId, tenantId: trust.tenantId, currentKid, backendKeys: config.backendKeys, now });
  if (next === undefined || hasKey(keys, next)) return keys;
  // An endorsed key that nothing has been signed with yet gives way to a newer one.
  return [...keys.filter(({ until }, at) => at === 0 || until !== undefined), { jwk: next }];
}

/** The keys after an UPDATE: the one that signed it comes first, and the one that it follows ends in an hour. */
export function keysAfterUpdate(keys: readonly TrustedKey[], signerKid: string, nowS: number): TrustedKey[] {
  const first = keys[0];
  const signer = keys.find(({ jwk }) => thumbprint(jwk) === signerKid);
  const keepsOrder = signer === undefined || signer === first || signer.until !== undefined;
  if (keepsOrder) return [...keys];
  const previous = first === undefined ? [] : [{ ...first, until: nowS + KEY_OVERLAP_S }];
  return [signer, ...previous];
}

export function hasKey(keys: readonly TrustedKey[], jwk: Ed25519PublicJwk): boolean {
  return keys.some((known) => known.jwk.x === jwk.x);
}

export function sameKeys(left: readonly TrustedKey[], right: readonly TrustedKey[]): boolean {
  const shape = (keys: readonly TrustedKey[]) => keys.map(({ jwk, until }) => `${jwk.x} ${String(until)}`).join('\n');
  return shape(left) === shape(right);
}
