import { type Expectations, type Refusal, refuse, type TokenClaims, verifyToken } from './token.js';
import type { WebTriggerRequest } from './request.js';

/** Longest accepted body, in bytes. */
export const MAX_BODY_BYTES = 1024 * 1024;

/** The scope that a token must have for each action. */
export const SCOPE_OF_ACTION = { REGISTER: 'health:register', UPDATE: 'health:update' } as const;
export type Action = keyof typeof SCOPE_OF_ACTION;

/** The fields of every body; the others belong to the action. */
export interface CallbackBody {
  readonly version: 1;
  readonly action: Action;
  readonly cloudId: string;
  readonly tenantId: string;
  readonly [field: string]: unknown;
}

export interface VerifiedCallback {
  readonly ok: true;
  readonly claims: TokenClaims;
  readonly kid: string;
  readonly body: CallbackBody;
}

/**
 * Verifies a callback: its token (see {@link verifyToken}), and that the body names the action of the token's scope, this
 * site and this installation.
 *
 * A refusal with `signed: true` concerns a call of the real backend; any other call may come from anywhere.
 */
export async function verifyCallback(
  request: WebTriggerRequest,
  expected: Expectations,
): Promise<VerifiedCallback | Refusal> {
  const token = await verifyToken(request, expected);
  if (!token.ok) return token;

  const text = request.body ?? '';
  if (Buffer.byteLength(text, 'utf8') > MAX_BODY_BYTES) return refuse('body-too-large', true);
  const body = parseObject(text);
  if (body?.['version'] !== 1) return refuse('body', true);
  if (body['action'] !== actionOfScope(token.claims.scope)) return refuse('scope', true);
  if (body['cloudId'] !== token.claims.aud) return refuse('audience', true);
  if (body['tenantId'] !== token.claims.sub) return refuse('subject', true);
  return { ok: true, claims: token.claims, kid: token.kid, body: body as unknown as CallbackBody };
}

function actionOfScope(scope: string): Action | undefined {
  const actions = Object.keys(SCOPE_OF_ACTION) as Action[];
  return actions.find((action) => SCOPE_OF_ACTION[action] === scope);
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    return value as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
