import { getAppContext, webTrigger } from '@forge/api';
import {
  type Ed25519PublicJwk,
  parsePublicJwk,
  type Refusal,
  SCOPE_OF_ACTION,
  tenantId,
  thumbprint,
  type VerifiedCallback,
  verifyCallback,
  type WebTriggerRequest,
} from 'forge-callback-verifier';

import { type Config, readConfig } from './config';
import { HANDOFF_USABLE_S, type HandoffClaims, verifyHandoff } from './handoff';
import { CALLBACK_TRIGGER, cloudIdOf, type InvocationContext } from './installation';
import { introducedKey } from './introduction';
import type { OutputKey, StaticOutput } from './outputs';
import { isPending, overviewOf, ownersShown } from './overview';
import { settleOwners, writeOwners } from './owner';
import { MalformedField, parsePeriod, parseService, parseUpdate, SERVICES_PER_TENANT, type Transition } from './service';
import {
  bindHandoff,
  changeTrust,
  liveKeys,
  readReport,
  readTrust,
  type RegisteredService,
  type Report,
  type Trust,
  type TrustedKey,
  type TrustSnapshot,
  writeReport,
} from './store';

/** How long a tenant key stays valid after the first UPDATE under its successor, in seconds. */
const KEY_OVERLAP_S = 3600;
/** How far ahead of our clock a tick may be, in seconds. */
const MAX_TICK_LEAD_S = 60;
/** How many changes the page keeps. */
const KEPT_TRANSITIONS = 30;

/**
 * The web trigger's handler: verifies one callback and applies it.
 *
 * It answers only with static outputs. Whatever is unexpected becomes RETRY, which is true: the same
 * callback may succeed later. Why something was refused goes to the app's own log.
 */
export async function receive(request: WebTriggerRequest, context: InvocationContext, now: Date): Promise<StaticOutput> {
  const { output, why } = await decide(request, context, now);
  if (why !== undefined) console.warn(`callback answered ${output}: ${why}`);
  return { outputKey: output };
}

interface Decision {
  readonly output: OutputKey;
  readonly why?: string | undefined;
}

/** What one invocation works with. */
interface Scene {
  readonly config: Config;
  readonly cloudId: string;
  readonly now: Date;
}

async function decide(request: WebTriggerRequest, context: InvocationContext, now: Date): Promise<Decision> {
  const read = readConfig(process.env);
  if (!read.ok) return { output: 'NOT_CONFIGURED', why: `unusable variables: ${read.unusable.join(', ')}` };
  const cloudId = cloudIdOf(context);
  if (cloudId === undefined) return { output: 'RETRY', why: 'the invocation context names no site' };
  const scene: Scene = { config: read.config, cloudId, now };
  try {
    return await verifyAndApply(request, scene);
  } catch (error) {
    if (error instanceof MalformedField) return { output: 'BAD_REQUEST', why: error.message };
    return { output: 'RETRY', why: error instanceof Error ? error.name : 'unknown failure' };
  }
}

async function verifyAndApply(request: WebTriggerRequest, scene: Scene): Promise<Decision> {
  const { config, cloudId, now } = scene;
  const triggerUrl = once(() => webTrigger.getUrl(CALLBACK_TRIGGER));
  const trust = once(readTrust);
  const keysOfTenant = once(async () => trustedKeys((await trust()).trust, request.body, scene));
  const callback = await verifyCallback(request, {
    backendUrl: config.backendUrl,
    cloudId,
    now,
    keys: {
      [SCOPE_OF_ACTION.REGISTER]: config.backendKeys,
      [SCOPE_OF_ACTION.UPDATE]: async () => (await keysOfTenant()).map(({ jwk }) => jwk),
    },
    // The app computes its own tenant id for a registration, and stores it for what follows.
    tenantId: async ({ scope }) =>
      scope === SCOPE_OF_ACTION.REGISTER ? tenantId(cloudId, await triggerUrl()) : ((await trust()).trust?.tenantId ?? ''),
  });
  if (!callback.ok) return refusal(callback);

  if (callback.body.action === 'REGISTER') {
    return register(callback, await triggerUrl(), await trust(), scene);
  }
  const read = await trust();
  if (read.trust === undefined) return { output: 'UNREGISTERED' };
  return update(callback, request.body, read, read.trust, scene);
}

function refusal({ reason, signed }: Refusal): Decision {
  if (reason === 'no-key-for-scope') return { output: 'UNREGISTERED', why: reason };
  if (reason === 'body-too-large') return { output: 'TOO_LARGE', why: reason };
  if (reason === 'body' && signed) return { output: 'BAD_REQUEST', why: reason };
  return { output: 'UNAUTHORIZED', why: reason };
}

/** The tenant's keys that count now, with the one that this very callback introduces. */
async function trustedKeys(trust: Trust | undefined, body: string | undefined, scene: Scene): Promise<TrustedKey[]> {
  if (trust === undefined) return [];
  const keys = [...liveKeys(trust, scene.now.getTime() / 1000)];
  const current = keys[0];
  if (current === undefined || body?.includes('"keyIntroduction"') !== true) return keys;

  const introduced = await introducedKey(fieldOf(body, 'keyIntroduction'), {
    cloudId: scene.cloudId,
    tenantId: trust.tenantId,
    currentKid: thumbprint(current.jwk),
    backendKeys: scene.config.backendKeys,
    now: scene.now,
  });
  if (introduced === undefined || hasKey(keys, introduced)) return keys;
  return [...keys.filter(({ until }, at) => at === 0 || until !== undefined), { jwk: introduced }];
}

function fieldOf(body: string, field: string): unknown {
  try {
    return (JSON.parse(body) as Record<string, unknown> | null)?.[field];
  } catch {
    return undefined;
  }
}

async function register(callback: VerifiedCallback, triggerUrl: string, read: TrustSnapshot, scene: Scene): Promise<Decision> {
  const { config, cloudId, now } = scene;
  const { body, claims } = callback;
  const jwk = parsePublicJwk(body['jwk']);
  if (jwk === undefined) throw new MalformedField('jwk');
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
  if (handoff === undefined) return { output: 'HANDOFF_INVALID' };
  if ((body['service'] as { owner?: unknown }).owner !== handoff.accountId) throw new MalformedField('service.owner');

  const binding = { kid: thumbprint(jwk), serviceId: service.id };
  const bound = await bindHandoff(handoff.jti, binding, handoff.iat + HANDOFF_USABLE_S, now);
  if (bound !== undefined && (bound.kid !== binding.kid || bound.serviceId !== binding.serviceId)) {
    return { output: 'HANDOFF_USED' };
  }
  const nowS = Math.floor(now.getTime() / 1000);
  const last = await readReport();
  const { changed, before, after } = await changeTrust(read, (present) => {
    const renewed = keyAfterRegister(present, claims.sub, jwk, handoff, nowS);
    return renewed === undefined ? 'unchanged' : { ...renewed, registered: withService(renewed, { service, registeredAt: claims.iat, periodS }, last) };
  });
  if (!changed) return { output: 'KEY_CONFLICT', why: 'a later hand-off installed another key' };
  const report = await readReport();
  const moved = difference(ownersShown(overviewOf(before, report)), ownersShown(overviewOf(after, report)));
  // With those whose registrations fell out just now, and again when a repetition finishes what was interrupted.
  const fallen = difference(registrants(before), registrants(after));
  await settleOwners([service.addedBy, ...moved, ...fallen], now);
  return { output: bound === undefined ? 'ACCEPTED' : 'DUPLICATE' };
}

/**
 * What is trusted after a REGISTER: the keys as they are when its key is one of those that count, else its key alone.
 * A key past its end is not one of them: a backend that was restored registers with it again, and means it. Only a
 * hand-off made after the one that installed the present key can replace it: otherwise repeating an old
 * REGISTER, while its token is still valid, would bring back a key that was replaced because it leaked.
 */
function keyAfterRegister(trust: Trust | undefined, tenant: string, jwk: Ed25519PublicJwk, { jti, iat }: HandoffClaims, nowS: number): Trust | undefined {
  const handoff = { jti, iat };
  if (trust?.tenantId !== tenant) return { tenantId: tenant, keys: [{ jwk }], handoff, registered: [] };
  const keys = liveKeys(trust, nowS);
  if (hasKey(keys, jwk)) return { ...trust, keys };
  if (iat <= trust.handoff.iat) return undefined;
  return { ...trust, keys: [{ jwk }], handoff };
}

/** Without those that a report has decided on. */
function withService(trust: Trust, added: RegisteredService, last: Report | undefined): RegisteredService[] {
  const report = last?.tenantId === trust.tenantId ? last : undefined;
  const others = trust.registered.filter((entry) => entry.service.id !== added.service.id && isPending(entry, report));
  return [...others, added].slice(-SERVICES_PER_TENANT);
}

function registrants(trust: Trust | undefined): ReadonlySet<string> {
  return new Set(trust?.registered.map(({ service }) => service.addedBy));
}

/** What is in one of two sets and not in the other. */
function difference(left: ReadonlySet<string>, right: ReadonlySet<string>): string[] {
  return [...[...left].filter((name) => !right.has(name)), ...[...right].filter((name) => !left.has(name))];
}

async function update(callback: VerifiedCallback, sentBody: string | undefined, read: TrustSnapshot, trust: Trust, scene: Scene): Promise<Decision> {
  const { claims, kid } = callback;
  const nowS = Math.floor(scene.now.getTime() / 1000);
  const { tick, nextUpdateBy, periodS, services, transitions } = parseUpdate(callback.body);
  if (tick > nowS + MAX_TICK_LEAD_S) throw new MalformedField('tick');

  // Whatever the tick: else an attacker with a leaked key could keep its successor from ever being noted, with later ticks.
  await changeTrust(read, async (present) => {
    if (present?.tenantId !== trust.tenantId) return 'unchanged';
    const keys = keysAfterUpdate(await trustedKeys(present, sentBody, scene), kid, nowS);
    return sameKeys(keys, present.keys) ? 'unchanged' : { ...present, keys };
  });

  const stored = await readReport();
  const last = stored?.tenantId === trust.tenantId ? stored : undefined;
  if (last !== undefined && tick <= last.tick) {
    const repeated = tick === last.tick && claims.body_sha256 === last.bodyHash;
    return { output: repeated ? 'DUPLICATE' : 'STALE_TICK' };
  }

  const report: Report = {
    tenantId: trust.tenantId,
    tick,
    bodyHash: claims.body_sha256,
    receivedAt: nowS,
    nextUpdateBy,
    periodS,
    services,
    transitions: newestFirst(transitions, last?.transitions ?? []),
  };
  return { output: (await storeReport(report, last, trust, scene.now)) ? 'ACCEPTED' : 'STALE_TICK' };
}

/**
 * Stores a report, and who it names. Those are written before it: a repetition after an interruption would find the
 * report, and no difference. Afterwards they are looked at again, since another callback may have been faster.
 *
 * @param last what was read before
 * @returns false when a later report stands
 */
async function storeReport(report: Report, last: Report | undefined, trust: Trust, now: Date): Promise<boolean> {
  const named = ownersShown(overviewOf(trust, report));
  const moved = difference(ownersShown(overviewOf(trust, last)), named);
  await writeOwners(moved, named, now);
  const { applied, replaced } = await writeReport(report);
  const overtaken = replaced?.tick === last?.tick ? [] : difference(ownersShown(overviewOf(trust, replaced)), named);
  await settleOwners([...moved, ...overtaken], now);
  return applied;
}

/** The signing key comes first; a key that it follows gets its last hour. */
function keysAfterUpdate(keys: readonly TrustedKey[], signer: string, nowS: number): TrustedKey[] {
  const first = keys[0];
  const signing = keys.find(({ jwk }) => thumbprint(jwk) === signer);
  const keepsOrder = signing === undefined || signing === first || signing.until !== undefined;
  if (keepsOrder) return [...keys];
  const previous = first === undefined ? [] : [{ ...first, until: nowS + KEY_OVERLAP_S }];
  return [signing, ...previous];
}

function newestFirst(incoming: readonly Transition[], kept: readonly Transition[]): Transition[] {
  const byIdentity = new Map([...kept, ...incoming].map((t) => [`${String(t.tick)} ${t.serviceId}`, t]));
  return [...byIdentity.values()].sort((a, b) => b.at - a.at || b.tick - a.tick).slice(0, KEPT_TRANSITIONS);
}

function hasKey(keys: readonly TrustedKey[], jwk: Ed25519PublicJwk): boolean {
  return keys.some((known) => known.jwk.x === jwk.x);
}

function sameKeys(left: readonly TrustedKey[], right: readonly TrustedKey[]): boolean {
  const shape = (keys: readonly TrustedKey[]) => keys.map(({ jwk, until }) => `${jwk.x} ${String(until)}`).join('\n');
  return shape(left) === shape(right);
}

/** Runs a read at most once per invocation. */
function once<T>(read: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => (result ??= read());
}
