/** Applies a verified UPDATE: the keys that it changes, and the report that it brings. */
import type { VerifiedCallback } from 'forge-callback-verifier';

import type { CallbackContext } from './installation';
import { changedOwners, overviewOf, ownersShown } from './overview';
import { reconcileOwners, writeOwners } from './owner';
import type { Decision } from './responses';
import { MalformedFieldError, parseUpdate, type Transition } from './service';
import { changeTrust, readReport, type Report, type Trust, type TrustSnapshot, writeReport } from './store';
import { keysAfterUpdate, sameKeys, trustedKeys } from './tenant-keys';

/** How far ahead of our clock a tick may be, in seconds. */
const MAX_TICK_LEAD_S = 60;
/** How many transitions the page keeps. */
const KEPT_TRANSITIONS = 30;

/** @throws MalformedFieldError */
export async function applyUpdate({ body, claims, kid }: VerifiedCallback, read: TrustSnapshot, context: CallbackContext): Promise<Decision> {
  const { trust } = read;
  if (trust === undefined) return { code: 'UNREGISTERED' };
  const nowS = Math.floor(context.now.getTime() / 1000);
  const update = parseUpdate(body);
  if (update.tick > nowS + MAX_TICK_LEAD_S) throw new MalformedFieldError('tick');

  // Whatever the tick: otherwise an attacker with a leaked key could post later ticks, and the next key would never count.
  await changeTrust(read, async (present) => {
    if (present?.tenantId !== trust.tenantId) return 'unchanged';
    const keys = keysAfterUpdate(await trustedKeys(present, body['keyIntroduction'], context), kid, nowS);
    return sameKeys(keys, present.keys) ? 'unchanged' : { ...present, keys };
  });

  const stored = await readReport();
  const last = stored?.tenantId === trust.tenantId ? stored : undefined;
  if (last !== undefined && update.tick <= last.tick) {
    const repeated = update.tick === last.tick && claims.body_sha256 === last.bodyHash;
    return { code: repeated ? 'DUPLICATE' : 'STALE_TICK' };
  }
  const transitions = newestFirst(update.transitions, last?.transitions ?? []);
  const report: Report = { ...update, transitions, tenantId: trust.tenantId, bodyHash: claims.body_sha256, receivedAt: nowS };
  return { code: (await storeReport(report, last, trust, context.now)) ? 'ACCEPTED' : 'STALE_TICK' };
}

/**
 * Stores a report, and the owners that it names. The owners come first: a repeat after an interruption would find the report,
 * and no difference. They are read again afterwards, because another callback may have been faster.
 *
 * @param last the report that was read before
 * @returns false when a later report stands
 */
async function storeReport(report: Report, last: Report | undefined, trust: Trust, now: Date): Promise<boolean> {
  const shown = ownersShown(overviewOf(trust, report));
  const changed = changedOwners(ownersShown(overviewOf(trust, last)), shown);
  await writeOwners(changed, shown, now);
  const { applied, replaced } = await writeReport(report);
  const changedMeanwhile = replaced?.tick === last?.tick ? [] : changedOwners(ownersShown(overviewOf(trust, replaced)), shown);
  await reconcileOwners([...changed, ...changedMeanwhile], now);
  return applied;
}

function newestFirst(incoming: readonly Transition[], kept: readonly Transition[]): Transition[] {
  const byIdentity = new Map([...kept, ...incoming].map((t) => [`${String(t.tick)} ${t.serviceId}`, t]));
  return [...byIdentity.values()].sort((a, b) => b.at - a.at || b.tick - a.tick).slice(0, KEPT_TRANSITIONS);
}
