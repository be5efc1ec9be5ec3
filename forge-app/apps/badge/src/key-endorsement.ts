import { CLOCK_SKEW_S, type Ed25519PublicJwk, isSignedBy, parsePublicJwk, thumbprint } from 'forge-callback-verifier';
import { decodeJwt, decodeProtectedHeader } from 'jose';

const MAX_TOKEN_CHARS = 4096;

export interface EndorsementExpectations {
  readonly cloudId: string;
  readonly tenantId: string;
  /** The tenant key that the endorsed one follows. */
  readonly currentKid: string;
  readonly backendKeys: readonly Ed25519PublicJwk[];
  readonly now: Date;
}

/** The key endorsement in a callback's body, unverified. Parses the body only if it has one. */
export function endorsementIn(body: string | undefined): unknown {
  if (body?.includes('"keyIntroduction"') !== true) return undefined;
  try {
    return (JSON.parse(body) as Record<string, unknown> | null)?.['keyIntroduction'];
  } catch {
    return undefined;
  }
}

/**
 * Verifies a key endorsement. Returns the next tenant key, or undefined.
 *
 * The deployment key signs it: "for this tenant, `jwk` follows the key `currentKid`". It is verified before the UPDATE that
 * carries it, so an UPDATE under the next key is accepted even when every earlier delivery was lost.
 */
export async function endorsedKey(token: unknown, expected: EndorsementExpectations): Promise<Ed25519PublicJwk | undefined> {
  if (typeof token !== 'string' || token.length > MAX_TOKEN_CHARS) return undefined;
  const decoded = decode(token);
  if (decoded === undefined) return undefined;
  const { kid, claims } = decoded;
  const nowS = expected.now.getTime() / 1000;
  const { aud, sub, currentKid, iat, exp } = claims;
  if (aud !== expected.cloudId || sub !== expected.tenantId || currentKid !== expected.currentKid) return undefined;
  if (!Number.isSafeInteger(iat) || !Number.isSafeInteger(exp)) return undefined;
  if ((iat as number) - CLOCK_SKEW_S > nowS || nowS >= (exp as number) + CLOCK_SKEW_S) return undefined;
  const signer = expected.backendKeys.find((key) => thumbprint(key) === kid);
  if (signer === undefined || !(await isSignedBy(token, signer))) return undefined;
  return parsePublicJwk(claims['jwk']);
}

function decode(token: string): { kid: string; claims: Record<string, unknown> } | undefined {
  try {
    const header = decodeProtectedHeader(token);
    if (header.alg !== 'EdDSA' || header.typ !== 'forge-key+jwt' || typeof header.kid !== 'string' || 'crit' in header) return undefined;
    return { kid: header.kid, claims: decodeJwt(token) };
  } catch {
    return undefined;
  }
}
