import { createHash, timingSafeEqual } from 'node:crypto';

import { compactVerify, decodeJwt, decodeProtectedHeader, importJWK } from 'jose';

import { type Ed25519PublicJwk, parsePublicJwk, thumbprint } from './key.js';
import { bearerToken, type WebTriggerRequest } from './request.js';
import { normalizeBackendUrl } from './tenant.js';

/** Longest life of a token, in seconds. */
export const MAX_TOKEN_LIFE_S = 300;
/** How far the two clocks may differ, in seconds. */
export const CLOCK_SKEW_S = 60;
/** Tokens with our claims are under 1 KiB; longer ones are not decoded. */
const MAX_TOKEN_CHARS = 4096;
/** Headers that name a key of the sender's choice, or change what is signed. */
const FORBIDDEN_HEADERS = ['crit', 'b64', 'zip', 'jwk', 'jku', 'x5u', 'x5c', 'x5t', 'x5t#S256'];

/** The claims of a verified token. All times are seconds since 1970. */
export interface TokenClaims {
  readonly iss: string;
  readonly aud: string;
  readonly sub: string;
  readonly iat: number;
  readonly exp: number;
  readonly jti: string;
  readonly scope: string;
  readonly body_sha256: string;
}

/** Why a request was refused: for the app's own log, never for the response. */
export type RefusalReason =
  | 'configuration'
  | 'authorization'
  | 'shape'
  | 'algorithm'
  | 'type'
  | 'header'
  | 'issuer'
  | 'audience'
  | 'scope'
  | 'time'
  | 'body-hash'
  | 'no-key-for-scope'
  | 'unknown-key'
  | 'signature'
  | 'subject'
  | 'body-too-large'
  | 'body';

export interface Refusal {
  readonly ok: false;
  readonly reason: RefusalReason;
  /** True when a trusted key signed the token: the error is the real sender's. */
  readonly signed: boolean;
}

export interface VerifiedToken {
  readonly ok: true;
  readonly claims: TokenClaims;
  /** Thumbprint of the trusted key that signed. */
  readonly kid: string;
}

/** The keys that may sign for one scope. */
export type TrustedKeys = readonly Ed25519PublicJwk[];

export interface Expectations {
  /** The backend's URL: the only accepted issuer. */
  readonly backendUrl: string;
  /** The site's cloud id: the only accepted audience. */
  readonly cloudId: string;
  /** This installation's tenant id; a function is called only once the signature is valid. */
  readonly tenantId: string | ((claims: TokenClaims) => Promise<string>);
  /**
   * The keys trusted for each scope; other scopes are refused. A function is called only when everything that needs no key is
   * valid, so it may read storage.
   */
  readonly keys: Readonly<Record<string, TrustedKeys | (() => Promise<TrustedKeys>)>>;
  readonly now: Date;
}

/**
 * Verifies the bearer token of a web-trigger request, and that it was made for exactly this body.
 *
 * Everything that needs no key is checked first; then the key is chosen by `kid` among those trusted
 * for the token's scope; then the signature, and last that the token is for this installation.
 */
export async function verifyToken(request: WebTriggerRequest, expected: Expectations): Promise<VerifiedToken | Refusal> {
  const token = bearerToken(request);
  if (token === undefined || token.length > MAX_TOKEN_CHARS) return refuse('authorization');
  const backendUrl = normalizeBackendUrl(expected.backendUrl);
  if (backendUrl === undefined) return refuse('configuration');

  const kid = readHeader(token);
  if (typeof kid === 'object') return kid;
  const claims = readClaims(token);
  if (claims === undefined) return refuse('shape');

  if (claims.iss !== backendUrl) return refuse('issuer');
  if (claims.aud !== expected.cloudId.toLowerCase()) return refuse('audience');
  if (!isTimely(claims, expected.now)) return refuse('time');
  const keysForScope = Object.hasOwn(expected.keys, claims.scope) ? expected.keys[claims.scope] : undefined;
  if (keysForScope === undefined) return refuse('scope');
  if (!isHashOf(claims.body_sha256, request.body ?? '')) return refuse('body-hash');

  const trusted = typeof keysForScope === 'function' ? await keysForScope() : keysForScope;
  if (trusted.length === 0) return refuse('no-key-for-scope');
  const key = trusted.find((candidate) => thumbprint(candidate) === kid);
  // parsePublicJwk again: a key of small order must not pass, even if it is among the trusted ones.
  if (key === undefined || parsePublicJwk(key) === undefined) return refuse('unknown-key');
  if (!(await isSignedBy(token, key))) return refuse('signature');

  const own = typeof expected.tenantId === 'function' ? await expected.tenantId(claims) : expected.tenantId;
  if (claims.sub !== own) return refuse('subject', true);
  return { ok: true, claims, kid };
}

export function refuse(reason: RefusalReason, signed = false): Refusal {
  return { ok: false, reason, signed };
}

/** Whether a compact JWS was signed with EdDSA by this key. */
export async function isSignedBy(token: string, key: Ed25519PublicJwk): Promise<boolean> {
  try {
    const { kty, crv, x } = key;
    await compactVerify(token, await importJWK({ kty, crv, x }, 'EdDSA'), { algorithms: ['EdDSA'] });
    return true;
  } catch {
    return false;
  }
}

/** The `kid`, or why the header is not one of ours. */
function readHeader(token: string): string | Refusal {
  let header: Record<string, unknown>;
  try {
    header = { ...decodeProtectedHeader(token) };
  } catch {
    return refuse('shape');
  }
  if (header['alg'] !== 'EdDSA') return refuse('algorithm');
  if (header['typ'] !== 'forge-callback+jwt') return refuse('type');
  if (FORBIDDEN_HEADERS.some((name) => Object.hasOwn(header, name))) return refuse('header');
  const kid = header['kid'];
  if (typeof kid !== 'string' || !/^[A-Za-z0-9_-]{43}$/.test(kid)) return refuse('header');
  return kid;
}

function readClaims(token: string): TokenClaims | undefined {
  let claims: Record<string, unknown>;
  try {
    claims = decodeJwt(token);
  } catch {
    return undefined;
  }
  const text = ['iss', 'aud', 'sub', 'jti', 'scope', 'body_sha256'];
  if (!text.every((name) => typeof claims[name] === 'string' && claims[name] !== '')) return undefined;
  if (!['iat', 'exp'].every((name) => Number.isSafeInteger(claims[name]))) return undefined;
  const { iss, aud, sub, iat, exp, jti, scope, body_sha256 } = claims as unknown as TokenClaims;
  return { iss, aud, sub, iat, exp, jti, scope, body_sha256 };
}

function isTimely({ iat, exp }: TokenClaims, now: Date): boolean {
  const nowS = now.getTime() / 1000;
  if (exp <= iat || exp - iat > MAX_TOKEN_LIFE_S) return false;
  return iat - CLOCK_SKEW_S <= nowS && nowS < exp + CLOCK_SKEW_S;
}

function isHashOf(expected: string, body: string): boolean {
  const actual = Buffer.from(createHash('sha256').update(body, 'utf8').digest('base64url'));
  const given = Buffer.from(expected);
  return given.length === actual.length && timingSafeEqual(given, actual);
}
