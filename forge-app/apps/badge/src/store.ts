import { type Ed25519PublicJwk, parsePublicJwk } from 'forge-callback-verifier';

import { createValue, deleteValue, readValue, replaceValue } from './kvs';
import type { Service, Status, Update } from './service';

/**
 * What the app keeps in the key-value store of its installation:
 *
 * - `trust`, written by REGISTER (and by the few UPDATEs that change keys): the trusted keys, and the pending registrations;
 * - `trust:<n>`, written once and kept for an hour: the n-th change of `trust`, see {@link changeTrust};
 * - `report`, written by UPDATE only, once per tick: what the page shows;
 * - `handoff:<jti>`, written once: the use of a hand-off;
 * - `owner:<pseudonym>` and the secret `owner-secret`, see owner.ts.
 *
 * `trust` and `report` are separate because a REGISTER and an UPDATE often arrive together, and each writes a whole value.
 * Atlassian bills the bytes written, so reports are stored as tuples.
 */

/** A tenant key that may sign UPDATE. */
export interface TrustedKey {
  readonly jwk: Ed25519PublicJwk;
  /** Set once the next key is in use: seconds since 1970 after which this key is not trusted. */
  readonly until?: number | undefined;
}

export interface RegisteredService {
  readonly service: Service;
  /** Seconds since 1970. */
  readonly registeredAt: number;
  /** The backend's period at that time, in seconds. */
  readonly periodS: number;
}

export interface Trust {
  readonly tenantId: string;
  /** The key in use first; then a next key, or the previous key in its last hour. Ended keys may still be in it. */
  readonly keys: readonly TrustedKey[];
  /** The hand-off that installed the first key: an older one cannot replace it. */
  readonly handoff: { readonly jti: string; readonly iat: number };
  /** Services that no report has listed yet. */
  readonly registered: readonly RegisteredService[];
}

/** `trust` is undefined before the first registration and after the uninstallation. */
export interface TrustSnapshot {
  /** How many changes led to it. */
  readonly changes: number;
  readonly trust: Trust | undefined;
}

/** The last UPDATE, with transitions of earlier ones: newest first. */
export interface Report extends Update {
  readonly tenantId: string;
  /** `body_sha256` of the UPDATE: a repeated delivery has the same. */
  readonly bodyHash: string;
  /** Seconds since 1970. */
  readonly receivedAt: number;
}

/** What a hand-off was used for. */
export interface HandoffUse {
  readonly kid: string;
  readonly serviceId: string;
}

/** Longest service URL that is stored: 50 services must stay far below the store's limit for one value. */
const MAX_KEPT_URL_CHARS = 512;

/**
 * How many concurrent changes one callback gives way to. Forge runs far fewer for one installation: a report at each tick,
 * and a registration for each person who adds a service in that second.
 */
const MAX_CHANGE_ATTEMPTS = 32;
/** How long a change is stored under its number, in seconds: far longer than any invocation lasts. */
const CHANGE_KEPT_S = 3600;

type StoredKey = [x: string, until: number | null];
/** `addedBy` is an index into the owners beside it. */
type StoredService = [
  id: string, name: string, url: string, status: Status, since: number | null, suppressed: 0 | 1,
  check: [at: number, ms: number | null, attempts: number | null, http: number | null, failure: string | null, certificate: number | null] | null,
  addedBy: number, unseenTicks: number | null,
];
type StoredTransition = [tick: number, serviceId: string, from: Status, to: Status, at: number, reason: string];

interface StoredTrust {
  changes: number;
  /** Absent when no key is trusted. */
  trust?: {
    tenantId: string;
    keys: StoredKey[];
    handoff: [jti: string, iat: number];
    owners: string[];
    registered: [service: StoredService, registeredAt: number, periodS: number][];
  };
}

interface StoredReport {
  tenantId: string;
  tick: number;
  hash: string;
  at: number;
  next: number;
  period: number;
  owners: string[];
  services: StoredService[];
  transitions: StoredTransition[];
}

export async function readTrust(): Promise<TrustSnapshot> {
  return unpackTrust(await readValue<StoredTrust>('trust'));
}

/** Returns the new trust: `none` trusts no key any more. */
export type TrustChange = (present: Trust | undefined) => Trust | 'none' | 'unchanged' | Promise<Trust | 'none' | 'unchanged'>;

export interface ChangedTrust {
  /** False when the change left everything as it is. */
  readonly changed: boolean;
  readonly before: Trust | undefined;
  readonly after: Trust | undefined;
}

/** Too many concurrent changes: this callback has changed nothing. */
export class TooManyChangesError extends Error {
  override readonly name = 'TooManyChangesError';
}

/**
 * Changes what is trusted. Of any number of concurrent changes none is lost.
 *
 * Changes are numbered. The n-th is written under `trust:<n>` with FAIL_IF_EXISTS, so one callback makes it; every other
 * callback reads it there, and applies its own change to it. `trust` is then replaced by the result. A callback that replaced
 * a later result with an earlier one sees that in what the store returns, and restores the later one. A callback that dies
 * in between has sent no response: the next change continues from what is stored under its number.
 *
 * @param read the snapshot that was read before
 * @param change called again when another callback was faster
 * @throws TooManyChangesError
 */
export async function changeTrust(read: TrustSnapshot, change: TrustChange): Promise<ChangedTrust> {
  let present = read;
  for (let attempt = 0; attempt < MAX_CHANGE_ATTEMPTS; attempt += 1) {
    const wanted = await change(present.trust);
    if (wanted === 'unchanged') {
      if (present !== read) await publishTrust(present);
      return { changed: false, before: present.trust, after: present.trust };
    }
    const next = { changes: present.changes + 1, trust: wanted === 'none' ? undefined : wanted };
    const key = `trust:${String(next.changes)}`;
    if (await createValue(key, packTrust(next), CHANGE_KEPT_S)) {
      await publishTrust(next);
      return { changed: true, before: present.trust, after: next.trust };
    }
    const faster = await readValue<StoredTrust>(key);
    if (faster === undefined) throw new Error('the store has lost a change of trust');
    present = unpackTrust(faster);
  }
  throw new TooManyChangesError();
}

/**
 * Publishes the changes that an earlier callback made and did not publish before it ended.
 *
 * @param read what `trust` says
 * @returns undefined when it lacks none
 */
export async function recoverTrust(read: TrustSnapshot): Promise<TrustSnapshot | undefined> {
  let latest = read;
  for (let attempt = 0; attempt < MAX_CHANGE_ATTEMPTS; attempt += 1) {
    const next = await readValue<StoredTrust>(`trust:${String(latest.changes + 1)}`);
    if (next === undefined) break;
    latest = unpackTrust(next);
  }
  if (latest === read) return undefined;
  await publishTrust(latest);
  return latest;
}

/** Writes `trust`; of concurrent writers the one with the most changes wins. */
async function publishTrust(snapshot: TrustSnapshot): Promise<void> {
  for (let wanted: StoredTrust | undefined = packTrust(snapshot); wanted !== undefined; ) {
    const replaced: StoredTrust | undefined = await replaceValue<StoredTrust>('trust', wanted);
    wanted = replaced !== undefined && replaced.changes > wanted.changes ? replaced : undefined;
  }
}

/** Trusts no key any more, and deletes the report. */
export async function revokeTrust(): Promise<void> {
  await changeTrust(await readTrust(), () => 'none');
  await deleteValue('report');
}

export async function readReport(): Promise<Report | undefined> {
  const stored = await readValue<StoredReport>('report');
  return stored === undefined ? undefined : unpackReport(stored);
}

/**
 * Writes a report unless a later one of the same tenant is stored: one that arrived between read and write is restored.
 *
 * @returns whether the report stands, and the report that it replaced
 */
export async function writeReport(report: Report): Promise<{ readonly applied: boolean; readonly replaced: Report | undefined }> {
  const replaced = await replaceValue<StoredReport>('report', packReport(report));
  const previous = replaced === undefined ? undefined : unpackReport(replaced);
  if (replaced?.tenantId !== report.tenantId || replaced.tick <= report.tick) return { applied: true, replaced: previous };
  let later = replaced;
  for (;;) {
    const found: StoredReport | undefined = await replaceValue<StoredReport>('report', later);
    if (found?.tenantId !== report.tenantId || found.tick <= later.tick) return { applied: false, replaced: previous };
    later = found;
  }
}

/**
 * Records the use of a hand-off. Of concurrent callers the first wins.
 *
 * @param until seconds since 1970 after which no REGISTER with this hand-off can be valid
 * @returns the earlier use, or undefined when there is none
 */
export async function recordHandoffUse(jti: string, use: HandoffUse, until: number, now: Date): Promise<HandoffUse | undefined> {
  const key = `handoff:${jti}`;
  const lifetimeS = Math.max(60, until - Math.floor(now.getTime() / 1000));
  if (await createValue(key, use, lifetimeS)) return undefined;
  const earlier = await readValue<HandoffUse>(key);
  if (earlier === undefined) throw new Error('the store has lost the use of a hand-off');
  return earlier;
}

function unpackTrust(stored: StoredTrust | undefined): TrustSnapshot {
  if (stored?.trust === undefined) return { changes: stored?.changes ?? 0, trust: undefined };
  const { tenantId, keys, handoff, owners, registered } = stored.trust;
  return {
    changes: stored.changes,
    trust: {
      tenantId,
      keys: keys.flatMap(([x, until]) => {
        const jwk = parsePublicJwk({ kty: 'OKP', crv: 'Ed25519', x });
        return jwk === undefined ? [] : [{ jwk, until: until ?? undefined }];
      }),
      handoff: { jti: handoff[0], iat: handoff[1] },
      registered: registered.map(([service, registeredAt, periodS]) => ({ service: unpackService(service, owners), registeredAt, periodS })),
    },
  };
}

function packTrust({ changes, trust }: TrustSnapshot): StoredTrust {
  if (trust === undefined) return { changes };
  const owners = ownersOf(trust.registered.map(({ service }) => service));
  return {
    changes,
    trust: {
      tenantId: trust.tenantId,
      keys: trust.keys.map(({ jwk, until }) => [jwk.x, until ?? null]),
      handoff: [trust.handoff.jti, trust.handoff.iat],
      owners,
      registered: trust.registered.map(({ service, registeredAt, periodS }) => [packService(service, owners), registeredAt, periodS]),
    },
  };
}

function unpackReport(stored: StoredReport): Report {
  return {
    tenantId: stored.tenantId,
    tick: stored.tick,
    bodyHash: stored.hash,
    receivedAt: stored.at,
    nextUpdateBy: stored.next,
    periodS: stored.period,
    services: stored.services.map((service) => unpackService(service, stored.owners)),
    transitions: stored.transitions.map(([tick, serviceId, from, to, at, reason]) => ({ tick, serviceId, from, to, at, reason })),
  };
}

function packReport(report: Report): StoredReport {
  const owners = ownersOf(report.services);
  return {
    tenantId: report.tenantId,
    tick: report.tick,
    hash: report.bodyHash,
    at: report.receivedAt,
    next: report.nextUpdateBy,
    period: report.periodS,
    owners,
    services: report.services.map((service) => packService(service, owners)),
    transitions: report.transitions.map((t) => [t.tick, t.serviceId, t.from, t.to, t.at, t.reason]),
  };
}

function ownersOf(services: readonly Service[]): string[] {
  return [...new Set(services.map(({ addedBy }) => addedBy))];
}

function packService({ id, name, url, status, since, suppressed, check, addedBy, unseenTicks }: Service, owners: readonly string[]): StoredService {
  const keptUrl = url.length > MAX_KEPT_URL_CHARS ? `${url.slice(0, MAX_KEPT_URL_CHARS)}…` : url;
  return [
    id, name, keptUrl, status, since ?? null, suppressed ? 1 : 0,
    check === undefined ? null : [
      check.checkedAt, check.responseTimeMs ?? null, check.attempts ?? null, check.httpStatus ?? null,
      check.failure ?? null, check.certificateExpiresAt ?? null,
    ],
    owners.indexOf(addedBy), unseenTicks ?? null,
  ];
}

function unpackService([id, name, url, status, since, suppressed, check, addedBy, unseenTicks]: StoredService, owners: readonly string[]): Service {
  return {
    id, name, url, status, since: since ?? undefined, suppressed: suppressed === 1, addedBy: owners[addedBy] ?? '', unseenTicks: unseenTicks ?? undefined,
    check: check === null ? undefined : {
      checkedAt: check[0], responseTimeMs: check[1] ?? undefined, attempts: check[2] ?? undefined,
      httpStatus: check[3] ?? undefined, failure: check[4] ?? undefined, certificateExpiresAt: check[5] ?? undefined,
    },
  };
}
