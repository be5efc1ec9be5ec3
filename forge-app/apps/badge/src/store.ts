import { type Ed25519PublicJwk, parsePublicJwk } from 'forge-callback-verifier';

import { createValue, deleteValue, readValue, replaceValue } from './kvs';
import type { Service, Status, Transition } from './service';

/**
 * What the app keeps in the key-value store of its installation:
 *
 * - `trust`, written by REGISTER (and by the few UPDATEs that change keys): whose signatures count;
 * - `trust:<n>`, written once and kept for an hour: the n-th change of `trust`, see {@link changeTrust};
 * - `report`, written by UPDATE only, once per tick: what the page shows;
 * - `handoff:<jti>`, written once: what a hand-off was used for;
 * - `owner:<pseudonym>` and the secret `owner-secret`, see owner.ts.
 *
 * `trust` and `report` are apart because a registration and an update often arrive together, and each writes a
 * whole value. The store is billed by bytes written, so a report is kept as tuples.
 */

/** A tenant key that may sign UPDATE. */
export interface TrustedKey {
  readonly jwk: Ed25519PublicJwk;
  /** Set once a successor is in use: seconds since 1970 after which this key counts no more. */
  readonly until?: number | undefined;
}

export interface RegisteredService {
  readonly service: Service;
  readonly registeredAt: number;
  /** The backend's period at that time, in seconds. */
  readonly periodS: number;
}

export interface Trust {
  readonly tenantId: string;
  /** The key in use first; then a next key, or the one before it during its last hour. Past keys: see {@link liveKeys}. */
  readonly keys: readonly TrustedKey[];
  /** The hand-off that installed the first key: an older one cannot replace it. */
  readonly handoff: { readonly jti: string; readonly iat: number };
  /** Services that no report has listed yet. */
  readonly registered: readonly RegisteredService[];
}

/** What is trusted after so many changes; nobody is before the first registration and after the end. */
export interface TrustSnapshot {
  readonly changes: number;
  readonly trust: Trust | undefined;
}

export interface Report {
  readonly tenantId: string;
  readonly tick: number;
  /** `body_sha256` of the UPDATE, to tell a repeated delivery from another body for the same tick. */
  readonly bodyHash: string;
  /** Seconds since 1970. */
  readonly receivedAt: number;
  /** Seconds since 1970 when the next report is due at the latest. */
  readonly nextUpdateBy: number;
  /** The backend's period, in seconds. */
  readonly periodS: number;
  readonly services: readonly Service[];
  /** Newest first. */
  readonly transitions: readonly Transition[];
}

export interface HandoffBinding {
  readonly kid: string;
  readonly serviceId: string;
}

/** Longest address that is kept: 50 services must stay far below the store's limit for one value. */
const MAX_KEPT_URL_CHARS = 512;

/**
 * How many changes of others one callback gives way to. So many callbacks at once all succeed; Forge runs far fewer
 * for one installation: a report at each tick, and a registration for each person who adds a service in that second.
 */
const MAX_CHANGE_ATTEMPTS = 32;
/** How long a change can be found under its number, in seconds: far longer than any invocation lasts. */
const CHANGE_KEPT_S = 3600;

type StoredKey = [x: string, until: number | null];
/** `addedBy` is an index into the owners beside it. */
type StoredService = [
  id: string, name: string, url: string, status: Status, since: number | null, held: 0 | 1,
  check: [at: number, ms: number | null, attempts: number | null, http: number | null, failure: string | null, certificate: number | null] | null,
  addedBy: number, unseenTicks: number | null,
];
type StoredTransition = [tick: number, serviceId: string, from: Status, to: Status, at: number, reason: string];

interface StoredTrust {
  changes: number;
  /** Absent when nobody is trusted. */
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
  return openTrust(await readValue<StoredTrust>('trust'));
}

/** The keys that still count. Whatever compares or keeps keys begins with these. */
export function liveKeys(trust: Trust, nowS: number): readonly TrustedKey[] {
  return trust.keys.filter(({ until }) => until === undefined || nowS <= until);
}

/** What a change makes of what is trusted. */
export type TrustChange = (present: Trust | undefined) => Trust | 'nobody' | 'unchanged' | Promise<Trust | 'nobody' | 'unchanged'>;

export interface ChangedTrust {
  /** False when the change left everything as it is. */
  readonly changed: boolean;
  readonly before: Trust | undefined;
  readonly after: Trust | undefined;
}

/** So many others changed what is trusted meanwhile that this callback gave up. It has changed nothing. */
export class TooManyChanges extends Error {
  override readonly name = 'TooManyChanges';
}

/**
 * Changes what is trusted, however many callbacks do so at once: none of their changes is lost.
 *
 * Changes are numbered. The n-th is written under `trust:<n>` with FAIL_IF_EXISTS, so one callback makes it; every other
 * one finds it there, and makes its own change to that. `trust` is then replaced by the result. Who wrote an earlier one
 * over a later one sees that in what the store returns, and puts the later one back. A callback that dies in between
 * has answered nothing: the next change continues from what it left under its number.
 *
 * @param read what was read before
 * @param change called again when another callback was faster
 * @throws TooManyChanges
 */
export async function changeTrust(read: TrustSnapshot, change: TrustChange): Promise<ChangedTrust> {
  let present = read;
  for (let attempt = 0; attempt < MAX_CHANGE_ATTEMPTS; attempt += 1) {
    const wanted = await change(present.trust);
    if (wanted === 'unchanged') {
      if (present !== read) await publishTrust(present);
      return { changed: false, before: present.trust, after: present.trust };
    }
    const next = { changes: present.changes + 1, trust: wanted === 'nobody' ? undefined : wanted };
    const key = `trust:${String(next.changes)}`;
    if (await createValue(key, packTrust(next), CHANGE_KEPT_S)) {
      await publishTrust(next);
      return { changed: true, before: present.trust, after: next.trust };
    }
    const faster = await readValue<StoredTrust>(key);
    if (faster === undefined) throw new Error('the store has lost a change of trust');
    present = openTrust(faster);
  }
  throw new TooManyChanges();
}

/** Writes `trust`; of several writers at once the one with the most changes prevails. */
async function publishTrust(snapshot: TrustSnapshot): Promise<void> {
  for (let wanted: StoredTrust | undefined = packTrust(snapshot); wanted !== undefined; ) {
    const replaced: StoredTrust | undefined = await replaceValue<StoredTrust>('trust', wanted);
    wanted = replaced !== undefined && replaced.changes > wanted.changes ? replaced : undefined;
  }
}

/** Forgets whom to believe and what they said. */
export async function forgetEverything(): Promise<void> {
  await changeTrust(await readTrust(), () => 'nobody');
  await deleteValue('report');
}

export async function readReport(): Promise<Report | undefined> {
  const stored = await readValue<StoredReport>('report');
  return stored === undefined ? undefined : openReport(stored);
}

/**
 * Writes a report unless a later one is there: one that arrived between our read and our write is put back.
 *
 * @returns whether the report stands, false when a later one of the same tenant does; and what was there
 */
export async function writeReport(report: Report): Promise<{ readonly applied: boolean; readonly replaced: Report | undefined }> {
  const replaced = await replaceValue<StoredReport>('report', packReport(report));
  const previous = replaced === undefined ? undefined : openReport(replaced);
  if (replaced?.tenantId !== report.tenantId || replaced.tick <= report.tick) return { applied: true, replaced: previous };
  let later = replaced;
  for (;;) {
    const found: StoredReport | undefined = await replaceValue<StoredReport>('report', later);
    if (found?.tenantId !== report.tenantId || found.tick <= later.tick) return { applied: false, replaced: previous };
    later = found;
  }
}

/**
 * Notes what a hand-off is used for. The first caller wins, also of several at once.
 *
 * @param until seconds since 1970 after which no REGISTER with this hand-off can be valid
 * @returns undefined when it was unused, else what it is bound to
 */
export async function bindHandoff(jti: string, binding: HandoffBinding, until: number, now: Date): Promise<HandoffBinding | undefined> {
  const key = `handoff:${jti}`;
  const lifeS = Math.max(60, until - Math.floor(now.getTime() / 1000));
  if (await createValue(key, binding, lifeS)) return undefined;
  const bound = await readValue<HandoffBinding>(key);
  if (bound === undefined) throw new Error('the store has lost what a hand-off is bound to');
  return bound;
}

function openTrust(stored: StoredTrust | undefined): TrustSnapshot {
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
      registered: registered.map(([service, registeredAt, periodS]) => ({ service: unpack(service, owners), registeredAt, periodS })),
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
      registered: trust.registered.map(({ service, registeredAt, periodS }) => [pack(service, owners), registeredAt, periodS]),
    },
  };
}

function openReport(stored: StoredReport): Report {
  return {
    tenantId: stored.tenantId,
    tick: stored.tick,
    bodyHash: stored.hash,
    receivedAt: stored.at,
    nextUpdateBy: stored.next,
    periodS: stored.period,
    services: stored.services.map((service) => unpack(service, stored.owners)),
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
    services: report.services.map((service) => pack(service, owners)),
    transitions: report.transitions.map((t) => [t.tick, t.serviceId, t.from, t.to, t.at, t.reason]),
  };
}

function ownersOf(services: readonly Service[]): string[] {
  return [...new Set(services.map(({ addedBy }) => addedBy))];
}

function pack({ id, name, url, status, since, held, check, addedBy, unseenTicks }: Service, owners: readonly string[]): StoredService {
  const keptUrl = url.length > MAX_KEPT_URL_CHARS ? `${url.slice(0, MAX_KEPT_URL_CHARS)}…` : url;
  return [
    id, name, keptUrl, status, since ?? null, held ? 1 : 0,
    check === undefined ? null : [
      check.checkedAt, check.responseTimeMs ?? null, check.attempts ?? null, check.httpStatus ?? null,
      check.failure ?? null, check.certificateExpiresAt ?? null,
    ],
    owners.indexOf(addedBy), unseenTicks ?? null,
  ];
}

function unpack([id, name, url, status, since, held, check, addedBy, unseenTicks]: StoredService, owners: readonly string[]): Service {
  return {
    id, name, url, status, since: since ?? undefined, held: held === 1, addedBy: owners[addedBy] ?? '', unseenTicks: unseenTicks ?? undefined,
    check: check === null ? undefined : {
      checkedAt: check[0], responseTimeMs: check[1] ?? undefined, attempts: check[2] ?? undefined,
      httpStatus: check[3] ?? undefined, failure: check[4] ?? undefined, certificateExpiresAt: check[5] ?? undefined,
    },
  };
}
