/** Services, checks and transitions, and how they are parsed from the body of a callback. */

export const STATUSES = ['ALIVE', 'DOWN', 'PAUSED', 'UNKNOWN'] as const;
export type Status = (typeof STATUSES)[number];

/** One check. All instants are seconds since 1970. */
export interface Check {
  readonly checkedAt: number;
  readonly responseTimeMs?: number | undefined;
  readonly attempts?: number | undefined;
  readonly httpStatus?: number | undefined;
  /** A class such as `timeout`, never a message. */
  readonly failure?: string | undefined;
  readonly certificateExpiresAt?: number | undefined;
}

export interface Service {
  readonly id: string;
  readonly name: string;
  readonly url: string;
  readonly status: Status;
  readonly since?: number | undefined;
  readonly check?: Check | undefined;
  /** The check failed while the backend's own network failed; `status` is the one before. `held` on the wire. */
  readonly suppressed: boolean;
  /** The pseudonym of its owner, see owner.ts. */
  readonly addedBy: string;
  /** How many ticks in a row did not check the service; absent when the last one did. */
  readonly unseenTicks?: number | undefined;
}

export interface Transition {
  readonly tick: number;
  readonly serviceId: string;
  readonly from: Status;
  readonly to: Status;
  readonly at: number;
  readonly reason: string;
}

/** The body of an UPDATE, without the fields that every callback has. */
export interface Update {
  /** Seconds since 1970. */
  readonly tick: number;
  /** When the next report is due at the latest, seconds since 1970. */
  readonly nextUpdateBy: number;
  /** The time from one tick to the next, in seconds. */
  readonly periodS: number;
  readonly services: readonly Service[];
  readonly transitions: readonly Transition[];
}

/** A field that breaks the protocol; its name is for the app's log. */
export class MalformedFieldError extends Error {
  constructor(readonly field: string) {
    super(`malformed field: ${field}`);
  }
}

type Fields = Readonly<Record<string, unknown>>;

/** The backend has the same bounds: tests of both sides read testdata/limits.json. */
export const SERVICES_PER_TENANT = 50;
export const TRANSITIONS_PER_REPORT = 100;
/** How long after its tick a report may name the next one at most, in seconds. */
const MAX_REPORT_GAP_S = 86_400;

/** @throws MalformedFieldError */
export function parseUpdate(body: Fields): Update {
  const tick = instant(body, 'tick');
  const nextUpdateBy = instant(body, 'nextUpdateBy');
  if (nextUpdateBy <= tick || nextUpdateBy > tick + MAX_REPORT_GAP_S) throw new MalformedFieldError('nextUpdateBy');
  return {
    tick,
    nextUpdateBy,
    periodS: parsePeriod(body),
    services: list(body, 'services', SERVICES_PER_TENANT).map(parseService),
    transitions: list(body, 'transitions', TRANSITIONS_PER_REPORT).map(parseTransition),
  };
}

/** The period that UPDATE and REGISTER carry. @throws MalformedFieldError */
export function parsePeriod(body: Fields): number {
  const periodS = count(body, 'periodS');
  if (periodS < 60 || periodS > 3600) throw new MalformedFieldError('periodS');
  return periodS;
}

/** @throws MalformedFieldError */
export function parseService(value: unknown): Service {
  const fields = object(value, 'service');
  return {
    id: serviceId(fields, 'id'),
    name: text(fields, 'name', 80 * 4),
    url: webAddress(fields, 'url'),
    status: status(fields, 'status'),
    since: optional(fields, 'since', instant),
    check: optional(fields, 'check', parseCheck),
    suppressed: fields['held'] === true,
    addedBy: matching(fields, 'addedBy', /^[A-Za-z0-9:._-]{1,128}$/),
    unseenTicks: optional(fields, 'unseenTicks', positive),
  };
}

function parseCheck(parent: Fields, name: string): Check {
  const fields = object(parent[name], name);
  return {
    checkedAt: instant(fields, 'checkedAt'),
    responseTimeMs: optional(fields, 'responseTimeMs', count),
    attempts: optional(fields, 'attempts', count),
    httpStatus: optional(fields, 'httpStatus', count),
    failure: optional(fields, 'failure', word),
    certificateExpiresAt: optional(fields, 'certificateExpiresAt', instant),
  };
}

function parseTransition(value: unknown): Transition {
  const fields = object(value, 'transition');
  return {
    tick: instant(fields, 'tick'),
    serviceId: serviceId(fields, 'serviceId'),
    from: status(fields, 'from'),
    to: status(fields, 'to'),
    at: instant(fields, 'at'),
    reason: optional(fields, 'reason', word) ?? '',
  };
}

function optional<T>(fields: Fields, name: string, read: (fields: Fields, name: string) => T): T | undefined {
  return fields[name] === undefined || fields[name] === null ? undefined : read(fields, name);
}

function object(value: unknown, name: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new MalformedFieldError(name);
  return value as Fields;
}

function list(fields: Fields, name: string, max: number): unknown[] {
  const value = fields[name];
  if (!Array.isArray(value) || value.length > max) throw new MalformedFieldError(name);
  return value;
}

function text(fields: Fields, name: string, maxLength: number): string {
  const value = fields[name];
  if (typeof value !== 'string' || value === '' || value.length > maxLength) throw new MalformedFieldError(name);
  return value;
}

function matching(fields: Fields, name: string, pattern: RegExp): string {
  const value = fields[name];
  if (typeof value !== 'string' || !pattern.test(value)) throw new MalformedFieldError(name);
  return value;
}

function serviceId(fields: Fields, name: string): string {
  return matching(fields, name, /^[a-z2-7]{16}$/);
}

/** A reason: one short word, so that no text of a sender's choice reaches the page. */
function word(fields: Fields, name: string): string {
  return matching(fields, name, /^[A-Za-z][A-Za-z0-9_-]{0,39}$/);
}

/** Only http and https: the page makes links of these. */
function webAddress(fields: Fields, name: string): string {
  const value = text(fields, name, 4096);
  if (!/^https?:\/\//i.test(value) || !URL.canParse(value)) throw new MalformedFieldError(name);
  return value;
}

function status(fields: Fields, name: string): Status {
  const found = STATUSES.find((known) => known === fields[name]);
  if (found === undefined) throw new MalformedFieldError(name);
  return found;
}

function count(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new MalformedFieldError(name);
  return value;
}

function positive(fields: Fields, name: string): number {
  const value = count(fields, name);
  if (value === 0) throw new MalformedFieldError(name);
  return value;
}

/** RFC 3339 in UTC with a precision of one second, as seconds since 1970. */
function instant(fields: Fields, name: string): number {
  const value = matching(fields, name, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  const at = Date.parse(value) / 1000;
  if (!Number.isSafeInteger(at)) throw new MalformedFieldError(name);
  return at;
}
