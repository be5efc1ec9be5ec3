import { CLOCK_SKEW_S, type Ed25519PublicJwk, isSignedBy, parsePublicJwk, thumbprint } from 'forge-callback-verifier';
import { decodeJwt, decodeProtectedHeader } from 'jose';

/**
 * The key that a key introduction brings, or undefined.
 *
 * An introduction is a statement of the deployment key alone: "for this tenant, `jwk` follows the key
 * `currentKid`". It proves itself, so it is read before the UPDATE that carries it is believed; that way an
 * UPDATE under the new key is understood even when every earlier delivery was lost.
 */
export async function introducedKey(
  token: unknown,
  expected: {
    readonly cloudId: string;
    readonly tenantId: string;
    readonly currentKid: string;
    readonly backendKeys: readonly Ed25519PublicJwk[];
    readonly now: Date;
  },
): Promise<Ed25519PublicJwk | undefined> {
  if (typeof token !== 'string' || token.length > 4096) return undefined;
  const statement = decode(token);
  if (statement === undefined) return undefined;
  const { kid, claims } = statement;
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
