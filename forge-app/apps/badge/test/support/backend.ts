/** Signs callbacks as the backend does, with real keys. An attack can replace every field. */
import { randomBytes } from 'node:crypto';

import { tenantId, type WebTriggerRequest } from 'forge-callback-verifier';

import { compactJws, request, sha256, type SigningKey, signingKey } from '../../../../packages/verifier/test/signing';
import type { Site } from './site';

export const BACKEND_URL = 'https://backend.example';
/** The period of the checks, in seconds. */
export const PERIOD_S = 300;

export interface Bend {
  /** Replaces claims of the token. */
  claims?: object;
  /** Replaces fields of the body, before it is hashed and signed. */
  body?: object;
  /** The body that arrives instead of the signed one. */
  sentBody?: string;
  key?: SigningKey;
  at?: Date;
}

export class Backend {
  deploymentKey = signingKey();
  tenantKey = signingKey();

  get publicJwks(): string {
    return JSON.stringify({ keys: [this.deploymentKey.jwk] });
  }

  register(site: Site, handoff: string, { body, at = site.now, key = this.deploymentKey, ...bend }: Bend = {}): WebTriggerRequest {
    const fields = { ...this.common(site, 'REGISTER', at), periodS: PERIOD_S, jwk: this.tenantKey.jwk, handoff, service: service({ owner: site.owner }), ...body };
    return this.send(site, fields, 'health:register', randomBytes(16).toString('hex'), { key, at, ...bend });
  }

  update(site: Site, tick: string, { body, at = site.now, key = this.tenantKey, ...bend }: Bend = {}): WebTriggerRequest {
    const nextUpdateBy = rfc3339(new Date(at.getTime() + 2 * PERIOD_S * 1000));
    const fields = { ...this.common(site, 'UPDATE', at), tick, nextUpdateBy, periodS: PERIOD_S, services: [service({ status: 'ALIVE' })], transitions: [], transitionsDropped: 0, ...body };
    return this.send(site, fields, 'health:update', `${site.tenantId}.${tick}`, { key, at, ...bend });
  }

  /** The deployment key endorses `next` as the key that follows `current`. */
  endorsement(site: Site, current: SigningKey, next: SigningKey, claims: object = {}, key = this.deploymentKey): string {
    const iat = seconds(site.now);
    const endorsement = { sub: site.tenantId, aud: site.cloudId, currentKid: current.kid, jwk: next.jwk, iat, exp: iat + 86_400, ...claims };
    return compactJws({ alg: 'EdDSA', typ: 'forge-key+jwt', kid: key.kid }, endorsement, key);
  }

  private common(site: Site, action: string, at: Date) {
    return { version: 1, action, cloudId: site.cloudId, tenantId: site.tenantId, sentAt: rfc3339(at) };
  }

  private send(site: Site, fields: object, scope: string, jti: string, { claims, sentBody, key = this.tenantKey, at = site.now }: Bend): WebTriggerRequest {
    const body = JSON.stringify(fields);
    const iat = seconds(at);
    const allClaims = { iss: BACKEND_URL, aud: site.cloudId, sub: site.tenantId, iat, exp: iat + 300, jti, scope, body_sha256: sha256(body), ...claims };
    return request(compactJws({ alg: 'EdDSA', typ: 'forge-callback+jwt', kid: key.kid }, allClaims, key), sentBody ?? body);
  }
}

/** A service as the backend sends it; by default `owner` has added it, without one the site's owner. */
export function service(fields: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    id: 'aaaabbbbccccdddd',
    name: 'Shop',
    url: 'https://shop.example/health',
    status: 'ALIVE',
    since: '2026-11-22T10:00:03Z',
    check: { checkedAt: '2026-11-22T10:05:02Z', responseTimeMs: 84, attempts: 1, httpStatus: 200, certificateExpiresAt: '2027-01-31T00:00:00Z' },
    addedBy: fields['owner'] ?? 'pseudonym-of-alice',
    ...fields,
  };
}

export function rfc3339(at: Date): string {
  return at.toISOString().replace(/\.\d{3}Z$/, 'Z');
}

export function seconds(at: Date): number {
  return Math.floor(at.getTime() / 1000);
}

export { tenantId };
