import { createPrivateKey, createPublicKey } from 'node:crypto';

import { type Ed25519PublicJwk, normalizeBackendUrl, parsePublicJwk } from 'forge-callback-verifier';

/** The app's private key as RFC 8037 writes it. */
export interface HandoffKey extends Ed25519PublicJwk {
  readonly d: string;
}

/** What `forge variables set` configures. */
export interface Config {
  /** Normalised: lower-case host, no trailing slash. */
  readonly backendUrl: string;
  /** The backend's deployment keys: one, or two while one follows the other. */
  readonly backendKeys: readonly Ed25519PublicJwk[];
  readonly handoffKey: HandoffKey;
}

/** The Forge variables. */
export const VARIABLES = ['BACKEND_URL', 'BACKEND_PUBLIC_KEY', 'HANDOFF_PRIVATE_KEY'] as const;
export type Variable = (typeof VARIABLES)[number];

/** Names the variables that are missing or malformed. */
export type ConfigResult =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly unusable: readonly Variable[] };

/** Reads the configuration from Forge variables, which reach the code as environment variables. */
export function readConfig(env: NodeJS.ProcessEnv): ConfigResult {
  const backendUrl = normalizeBackendUrl(env['BACKEND_URL']);
  const backendKeys = parseJwks(env['BACKEND_PUBLIC_KEY']);
  const handoffKey = parseHandoffKey(env['HANDOFF_PRIVATE_KEY']);
  if (backendUrl !== undefined && backendKeys !== undefined && handoffKey !== undefined) {
    return { ok: true, config: { backendUrl, backendKeys, handoffKey } };
  }
  const values = { BACKEND_URL: backendUrl, BACKEND_PUBLIC_KEY: backendKeys, HANDOFF_PRIVATE_KEY: handoffKey };
  return { ok: false, unusable: VARIABLES.filter((name) => values[name] === undefined) };
}

function parseJwks(text: string | undefined): readonly Ed25519PublicJwk[] | undefined {
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null) return undefined;
  const { keys } = value as { keys?: unknown };
  if (!Array.isArray(keys) || keys.length < 1 || keys.length > 2) return undefined;
  const parsed = keys.map(parsePublicJwk).filter((key) => key !== undefined);
  return parsed.length === keys.length ? parsed : undefined;
}

/** A private key whose public half belongs to it: signatures of any other could not be verified. */
function parseHandoffKey(text: string | undefined): HandoffKey | undefined {
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null) return undefined;
  const { d, ...publicHalf } = value as Record<string, unknown>;
  const jwk = parsePublicJwk(publicHalf);
  if (jwk === undefined || typeof d !== 'string') return undefined;
  try {
    const privateKey = createPrivateKey({ key: { ...jwk, d }, format: 'jwk' });
    const derived = createPublicKey(privateKey).export({ format: 'jwk' });
    return derived.x === jwk.x ? { ...jwk, d } : undefined;
  } catch {
    return undefined;
  }
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '');
  } catch {
    return undefined;
  }
}
