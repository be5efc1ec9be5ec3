export { type Action, type CallbackBody, MAX_BODY_BYTES, SCOPE_OF_ACTION, type VerifiedCallback, verifyCallback } from './callback.js';
export { type Ed25519PublicJwk, parsePublicJwk, thumbprint } from './key.js';
export { bearerToken, headerValues, type WebTriggerRequest } from './request.js';
export { normalizeBackendUrl, tenantId } from './tenant.js';
export {
  CLOCK_SKEW_S,
  type Expectations,
  isSignedBy,
  MAX_TOKEN_LIFE_S,
  type Refusal,
  type RefusalReason,
  type TokenClaims,
  type TrustedKeys,
  type VerifiedToken,
  verifyToken,
} from './token.js';
