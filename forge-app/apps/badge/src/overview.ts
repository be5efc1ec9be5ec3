import type { Service, Transition } from './service';
import { readReport, readTrust, type RegisteredService, type Report, type Trust } from './store';

/** How far before its registration the tick of a report may lie that already lists a service, in seconds. */
const REGISTRATION_LAG_S = 60;
/** For how many periods a registration counts before the first report. */
const PERIODS_BEFORE_FIRST_REPORT = 2;

/** What there is to show about the services of this installation. All instants are seconds since 1970. */
export interface Overview {
  /** False until the first registration was accepted. */
  readonly registered: boolean;
  readonly services: readonly Service[];
  /** Newest first. */
  readonly transitions: readonly Transition[];
  /** When the last report was received; while none lists a service, the oldest registration that waits for one. */
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

/** The last report, and what was registered since, which no report could list yet. */
export function overviewOf(trust: Trust | undefined, stored: Report | undefined): Overview {
  if (trust === undefined) return { registered: false, services: [], transitions: [] };
  const report = stored?.tenantId === trust.tenantId ? stored : undefined;
  const pending = trust.registered.filter((entry) => isPending(entry, report));
  const listed = new Set(report?.services.map(({ id }) => id));
  // A report without services is the last one until a service is added: it promises nothing.
  const running = report !== undefined && report.services.length > 0;
  const first = oldest(pending);
  return {
    registered: true,
    services: [
      ...(report?.services ?? []).map((service) => ({ ...service, addedBy: addedSince(pending, service) })),
      ...pending.map(({ service }) => service).filter(({ id }) => !listed.has(id)),
    ],
    transitions: report?.transitions ?? [],
    receivedAt: running ? report.receivedAt : first?.registeredAt,
    nextUpdateBy: running ? report.nextUpdateBy : first && first.registeredAt + PERIODS_BEFORE_FIRST_REPORT * first.periodS,
    periodS: report?.periodS ?? first?.periodS,
    tick: report?.tick,
  };
}

/** Whether a registration is too young for the last report to decide on: to list the service, or to say that it is gone. */
export function isPending({ registeredAt }: RegisteredService, report: Report | undefined): boolean {
  return registeredAt + REGISTRATION_LAG_S > (report?.tick ?? 0);
}

/** Pseudonyms of those whose services are shown. */
export function ownersShown({ services }: Overview): ReadonlySet<string> {
  return new Set(services.map(({ addedBy }) => addedBy));
}

/** A service that was removed and added again since the report is of who added it last. */
function addedSince(pending: readonly RegisteredService[], { id, addedBy }: Service): string {
  return pending.find(({ service }) => service.id === id)?.service.addedBy ?? addedBy;
}

/** A registration proves that a person came by, not that anything is checked: none makes what was reported before look newer. */
function oldest(registered: readonly RegisteredService[]): RegisteredService | undefined {
  return registered.reduce<RegisteredService | undefined>((first, entry) => (first === undefined || entry.registeredAt < first.registeredAt ? entry : first), undefined);
}
