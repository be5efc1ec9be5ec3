import type { Service, Transition } from './service';
import { readReport, readTrust, type RegisteredService } from './store';

/** How far before its registration the tick of a report may lie that already lists a service, in seconds. */
const REGISTRATION_LAG_S = 60;

/** What there is to show about the services of this installation. All instants are seconds since 1970. */
export interface Overview {
  /** False until the first registration was accepted. */
  readonly registered: boolean;
  readonly services: readonly Service[];
  /** Account id of who added a service, by service id. */
  readonly owners: Readonly<Record<string, string>>;
  /** Newest first. */
  readonly transitions: readonly Transition[];
  /** When the last report came in; while none lists a service, the oldest registration that waits for one. */
  readonly heardAt?: number | undefined;
  /** When the next report is due at the latest, if the last one said so; else one follows at every tick. */
  readonly nextUpdateBy?: number | undefined;
  /** The tick of the last report. */
  readonly tick?: number | undefined;
}

/** The last report, and the services registered since, which no report could list yet. */
export async function readOverview(): Promise<Overview> {
  const [{ trust }, stored] = await Promise.all([readTrust(), readReport()]);
  if (trust === undefined) return { registered: false, services: [], owners: {}, transitions: [] };
  const report = stored?.tenantId === trust.tenantId ? stored : undefined;
  const listed = new Set(report?.services.map(({ id }) => id));
  const pending = trust.registered.filter(
    ({ service, registeredAt }) => !listed.has(service.id) && registeredAt + REGISTRATION_LAG_S > (report?.tick ?? 0),
  );
  // A report without services is the last one until somebody adds one: it promises nothing.
  const running = report !== undefined && report.services.length > 0;
  return {
    registered: true,
    services: [...(report?.services ?? []), ...pending.map(({ service }) => service)],
    owners: trust.owners,
    transitions: report?.transitions ?? [],
    heardAt: running ? report.receivedAt : oldest(pending),
    nextUpdateBy: running ? report.nextUpdateBy : undefined,
    tick: report?.tick,
  };
}

/** A registration proves that somebody came by, not that anything is checked: none makes what was heard before look newer. */
function oldest(registered: readonly RegisteredService[]): number | undefined {
  return registered.length === 0 ? undefined : Math.min(...registered.map(({ registeredAt }) => registeredAt));
}
