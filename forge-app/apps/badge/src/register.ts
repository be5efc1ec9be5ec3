/** Applies a verified REGISTER: its own hand-off, the tenant key, and the service that it adds. */
import { getAppContext } from '@forge/api';
import { type Ed25519PublicJwk, parsePublicJwk, thumbprint, type VerifiedCallback } from 'forge-callback-verifier';

import { HANDOFF_USABLE_S, type HandoffClaims, verifyHandoff } from './handoff';
import type { CallbackContext } from './installation';
import { changedOwners, isPending, overviewOf, ownersShown } from './overview';
import { reconcileOwners } from './owner';
import type { Decision } from './responses';
import { MalformedFieldError, parsePeriod, parseService, SERVICES_PER_TENANT } from './service';
import { changeTrust, readReport, recordHandoffUse, type RegisteredService, type Report, type Trust, type TrustSnapshot } from './store';
import { hasKey, liveKeys } from './tenant-keys';

/** @throws MalformedFieldError */
export async function applyRegister(callback: VerifiedCallback, triggerUrl: string, read: TrustSnapshot, context: CallbackContext): Promise<Decision> {
  const { config, cloudId, now } = context;
  const { body, claims } = callback;
  const jwk = parsePublicJwk(body['jwk']);
  if (jwk === undefined) throw new MalformedFieldError('jwk');
  const periodS = parsePeriod(body);
  const service = parseService(body['service']);

  const handoff = await verifyHandoff(body['handoff'], {
    app: getAppContext().appAri.toString(),
    backendUrl: config.backendUrl,
    cloudId,
    triggerUrl,
    key: config.handoffKey,
    registeredAt: claims.iat,
  });
  if (handoff === undefined) return { code: 'HANDOFF_INVALID' };
  if ((body['service'] as { owner?: unknown }).owner !== handoff.accountId) throw new MalformedFieldError('service.owner');

  const use = { kid: thumbprint(jwk), serviceId: service.id };
  const earlier = await recordHandoffUse(handoff.jti, use, handoff.iat + HANDOFF_USABLE_S, now);
  if (earlier !== undefined && (earlier.kid !== use.kid || earlier.serviceId !== use.serviceId)) return { code: 'HANDOFF_USED' };

  const nowS = Math.floor(now.getTime() / 1000);
  const last = await readReport();
  const { changed, before, after } = await changeTrust(read, (present) => {
    const trust = trustWithKey(present, claims.sub, jwk, handoff, nowS);
    return trust === undefined ? 'unchanged' : { ...trust, registered: withService(trust, { service, registeredAt: claims.iat, periodS }, last) };
  });
  if (!changed) return { code: 'KEY_CONFLICT', reason: 'a later hand-off installed another key' };

  const report = await readReport();
  const shown = changedOwners(ownersShown(overviewOf(before, report)), ownersShown(overviewOf(after, report)));
  // Registrations that this one pushed out count as well, also when a repeat finishes an interrupted REGISTER.
  const dropped = changedOwners(registrants(before), registrants(after));
  await reconcileOwners([service.addedBy, ...shown, ...dropped], now);
  return { code: earlier === undefined ? 'ACCEPTED' : 'DUPLICATE' };
}

/**
 * What is trusted after a REGISTER with this key; undefined for a key conflict. A live key changes nothing; another one replaces all.
 *
 * A key past its end is not live: a restored backend registers with it again. Only a hand-off made after the one that
 * installed the present key can replace that key. Otherwise an old REGISTER, repeated while its token is still valid, would
 * bring back a leaked key.
 */
function trustWithKey(trust: Trust | undefined, tenantId: string, jwk: Ed25519PublicJwk, { jti, iat }: HandoffClaims, nowS: number): Trust | undefined {
  const handoff = { jti, iat };
  if (trust?.tenantId !== tenantId) return { tenantId, keys: [{ jwk }], handoff, registered: [] };
  const keys = liveKeys(trust, nowS);
  if (hasKey(keys, jwk)) return { ...trust, keys };
  if (iat <= trust.handoff.iat) return undefined;
  return { ...trust, keys: [{ jwk }], handoff };
}

/** The registrations that no report has decided on yet, with a new one. */
function withService(trust: Trust, added: RegisteredService, last: Report | undefined): RegisteredService[] {
  const report = last?.tenantId === trust.tenantId ? last : undefined;
  const others = trust.registered.filter((entry) => entry.service.id !== added.service.id && isPending(entry, report));
  return [...others, added].slice(-SERVICES_PER_TENANT);
}

function registrants(trust: Trust | undefined): ReadonlySet<string> {
  return new Set(trust?.registered.map(({ service }) => service.addedBy));
}
