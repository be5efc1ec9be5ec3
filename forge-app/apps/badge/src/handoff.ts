import { randomBytes } from 'node:crypto';

import { CLOCK_SKEW_S, type Ed25519PublicJwk, isSignedBy, MAX_TOKEN_LIFE_S, thumbprint } from 'forge-callback-verifier';
import { CompactSign, decodeJwt, decodeProtectedHeader, importJWK } from 'jose';

import type { HandoffKey } from './config';

/** How long a person has from leaving the site to submitting the form, in seconds. */
export const HANDOFF_LIFETIME_S = 600;
/** How long after its end a hand-off that was already used can still be resumed, in seconds. */
export const HANDOFF_GRACE_S = 300;
/** After this time no REGISTER with a hand-off can be valid, in seconds since it was signed. */
export const HANDOFF_USABLE_S = HANDOFF_LIFETIME_S + HANDOFF_GRACE_S + MAX_TOKEN_LIFE_S + 2 * CLOCK_SKEW_S;
const HANDOFF_TYPE = 'forge-handoff+jwt';

/** The claims of a hand-off that name the person and the installation. */
export interface HandoffSubject {
  readonly cloudId: string;
  /** A pseudonym: the backend never learns an Atlassian account id. */
  readonly accountId: string;
  readonly triggerUrl: string;
  /** The return URL, under its name on the wire; without one the backend shows no link. */
  readonly callbackUrl?: string;
}

/** What people can do to their own services. */
export const CHANGES = ['remove', 'pause', 'resume'] as const;
export type Change = (typeof CHANGES)[number];

/** A change to one service; the backend only displays name and URL. */
export interface ServiceChange {
  readonly change: Change;
  readonly serviceId: string;
  readonly serviceName: string;
  readonly serviceUrl: string;
}

export interface HandoffClaims extends HandoffSubject {
  /** The app's ARI. */
  readonly iss: string;
  /** The backend's URL. */
  readonly aud: string;
  /** Seconds since 1970. */
  readonly iat: number;
  readonly exp: number;
  /** 128 random bits in hex. */
  readonly jti: string;
  /** `register` or `manage`. */
  readonly purpose: string;
}

/** Signs a hand-off that expires in {@link HANDOFF_LIFETIME_S} seconds: to register a service, or to change one. */
export async function signHandoff(
  subject: HandoffSubject & Partial<ServiceChange>,
  parties: { readonly app: string; readonly backendUrl: string },
  key: HandoffKey,
  now: Date,
): Promise<string> {
  const iat = Math.floor(now.getTime() / 1000);
  const claims: HandoffClaims = {
    iss: parties.app,
    aud: parties.backendUrl,
    iat,
    exp: iat + HANDOFF_LIFETIME_S,
    jti: randomBytes(16).toString('hex'),
    purpose: subject.change === undefined ? 'register' : 'manage',
    ...subject,
  };
  return new CompactSign(Buffer.from(JSON.stringify(claims)))
    .setProtectedHeader({ alg: 'EdDSA', typ: HANDOFF_TYPE, kid: thumbprint(key) })
    .sign(await importJWK({ ...key }, 'EdDSA'));
}

export interface HandoffExpectations {
  readonly app: string;
  readonly backendUrl: string;
  readonly cloudId: string;
  readonly triggerUrl: string;
  readonly key: Ed25519PublicJwk;
  /** When the backend signed the REGISTER that carries the hand-off, seconds since 1970. */
  readonly registeredAt: number;
}

/**
 * The claims of a recent hand-off from this installation to this backend; undefined for any other. The time that counts is
 * when the backend signed, not the arrival: a repeated delivery must not turn a good hand-off into a bad one.
 */
export async function verifyHandoff(token: unknown, expected: HandoffExpectations): Promise<HandoffClaims | undefined> {
  if (typeof token !== 'string' || token.length > 8192) return undefined;
  const claims = decode(token, thumbprint(expected.key));
  if (claims === undefined) return undefined;
  const matches =
    claims.iss === expected.app &&
    claims.aud === expected.backendUrl &&
    claims.purpose === 'register' &&
    claims.cloudId === expected.cloudId &&
    claims.triggerUrl === expected.triggerUrl;
  const timely =
    claims.exp - claims.iat <= HANDOFF_LIFETIME_S &&
    claims.iat - CLOCK_SKEW_S <= expected.registeredAt &&
    expected.registeredAt <= claims.exp + HANDOFF_GRACE_S;
  if (!matches || !timely || !/^[0-9a-f]{32}$/.test(claims.jti)) return undefined;
  return (await isSignedBy(token, expected.key)) ? claims : undefined;
}

function decode(token: string, kid: string): HandoffClaims | undefined {
  try {
    const header = decodeProtectedHeader(token);
    if (header.alg !== 'EdDSA' || header.typ !== HANDOFF_TYPE || header.kid !== kid || 'crit' in header) return undefined;
    const claims: Record<string, unknown> = decodeJwt(token);
    const text = ['iss', 'aud', 'jti', 'purpose', 'cloudId', 'accountId', 'triggerUrl'];
    const complete =
      text.every((name) => typeof claims[name] === 'string' && claims[name] !== '') &&
      ['iat', 'exp'].every((name) => Number.isSafeInteger(claims[name]));
    return complete ? (claims as unknown as HandoffClaims) : undefined;
  } catch {
    return undefined;
  }
}
