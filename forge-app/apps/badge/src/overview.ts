import type { Service, Transition } from './service';
import { readReport, readTrust, type RegisteredService, type Report, type Trust } from './store';

/** A report may list a service that was registered up to so many seconds after the report's tick. */
const REGISTRATION_LAG_S = 60;
/** How many periods the first report may take after a registration. */
const PERIODS_BEFORE_FIRST_REPORT = 2;

/** What there is to show about the services of this installation. All instants are seconds since 1970. */
export interface Overview {
  readonly services: readonly Service[];
  /** Newest first. */
  readonly transitions: readonly Transition[];
  /** When the last report arrived; until one lists a service, the time of the oldest pending registration. */
  readonly receivedAt?: number | undefined;
  /** When the next report is due at the latest; absent while nothing is monitored. */
  readonly nextUpdateBy?: number | undefined;
  /** The backend's period in seconds, once it is known. */
  readonly periodS?: number | undefined;
  /** The tick of the last report. */
  readonly tick?: number | undefined;
}

export async function readOverview(): Promise<Overview> {
  const [{ trust }, report] = await Promise.all([readTrust(), readReport()]);
  return overviewOf(trust, report);
}

/** The last report, and the registrations since, which no report can list yet. */
export function overviewOf(trust: Trust | undefined, stored: Report | undefined): Overview {
  if (trust === undefined) return { services: [], transitions: [] };
  const report = stored?.tenantId === trust.tenantId ? stored : undefined;
  const pending = trust.registered.filter((entry) => isPending(entry, report));
  const listed = new Set(report?.services.map(({ id }) => id));
  // A report without services is the last one until a service is added: no next one is due.
  const running = report !== undefined && report.services.length > 0;
  const first = oldest(pending);
  return {
    services: [
      ...(report?.services ?? []).map((service) => ({ ...service, addedBy: latestOwner(pending, service) })),
      ...pending.map(({ service }) => service).filter(({ id }) => !listed.has(id)),
    ],
    transitions: report?.transitions ?? [],
    receivedAt: running ? report.receivedAt : first?.registeredAt,
    nextUpdateBy: running ? report.nextUpdateBy : first && first.registeredAt + PERIODS_BEFORE_FIRST_REPORT * first.periodS,
    periodS: report?.periodS ?? first?.periodS,
    tick: report?.tick,
  };
}

/** Whether a registration is newer than what the last report can know: its service is neither listed nor gone yet. */
export function isPending({ registeredAt }: RegisteredService, report: Report | undefined): boolean {
  return registeredAt + REGISTRATION_LAG_S > (report?.tick ?? 0);
}

/** Pseudonyms of the owners whose services are shown. */
export function ownersShown({ services }: Overview): ReadonlySet<string> {
  return new Set(services.map(({ addedBy }) => addedBy));
}

/** Pseudonyms that are in one of two sets and not in the other. */
export function changedOwners(left: ReadonlySet<string>, right: ReadonlySet<string>): string[] {
  return [...[...left].filter((owner) => !right.has(owner)), ...[...right].filter((owner) => !left.has(owner))];
}

/** A service that was removed and added again since the report belongs to the person who added it last. */
function latestOwner(pending: readonly RegisteredService[], { id, addedBy }: Service): string {
  return pending.find(({ service }) => service.id === id)?.service.addedBy ?? addedBy;
}

/** The oldest one decides when a report is due: a later registration must not make an old report look newer. */
function oldest(registered: readonly RegisteredService[]): RegisteredService | undefined {
  return registered.reduce<RegisteredService | undefined>((first, entry) => (first === undefined || entry.registeredAt < first.registeredAt ? entry : first), undefined);
}
