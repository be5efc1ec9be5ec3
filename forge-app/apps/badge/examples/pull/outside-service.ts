import { createHash, randomUUID } from 'node:crypto';

import { parsePublicJwk, tenantId, thumbprint } from 'forge-callback-verifier';
import { importJWK, type JWK, SignJWT } from 'jose';

/** An installation, as the outside service knows it. */
export interface Installation {
  readonly cloudId: string;
  /** What `forge webtrigger create` printed. */
  readonly triggerUrl: string;
}

/** Long enough for one request; a leaked token is useless a minute later. */
const TOKEN_LIFE_S = 60;

/**
 * Reads the report of one installation.
 *
 * @param readerUrl the service's own https URL: the issuer that the app expects
 * @param privateJwk the Ed25519 key whose public half is the app's READER_PUBLIC_KEY
 * @throws Error when the app refuses
 */
export async function pullReport(installation: Installation, readerUrl: string, privateJwk: JWK): Promise<unknown> {
  const token = await readToken(installation, readerUrl, privateJwk);
  const response = await fetch(installation.triggerUrl, { headers: { authorization: `Bearer ${token}` }, redirect: 'error' });
  if (!response.ok) throw new Error(`the app responded ${String(response.status)}`);
  return response.json();
}

/** A token for one scope, one installation, one minute, and a request without a body. */
export async function readToken({ cloudId, triggerUrl }: Installation, readerUrl: string, privateJwk: JWK): Promise<string> {
  const { kty, crv, x } = privateJwk;
  const publicJwk = parsePublicJwk({ kty, crv, x });
  if (publicJwk === undefined) throw new Error('the key must be an Ed25519 JWK');
  return new SignJWT({ scope: 'report:read', body_sha256: createHash('sha256').update('').digest('base64url') })
    .setProtectedHeader({ alg: 'EdDSA', typ: 'forge-callback+jwt', kid: thumbprint(publicJwk) })
    .setIssuer(readerUrl)
    .setAudience(cloudId)
    .setSubject(tenantId(cloudId, triggerUrl))
    .setIssuedAt()
    .setExpirationTime(`${String(TOKEN_LIFE_S)} s`)
    .setJti(randomUUID())
    .sign(await importJWK(privateJwk, 'EdDSA'));
}
