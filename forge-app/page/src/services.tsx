import type { Check, Overview, Service, Status } from './data';
import { manageService } from './bridge';
import { HandoffButton } from './handoff-button';
import { reasonText } from './reasons';
import { daysUntil, formatDate, formatDateTime, longDuration, shortDuration, toIso } from './time';

const ORDER: readonly Status[] = ['DOWN', 'UNKNOWN', 'ALIVE', 'PAUSED'];
/** A certificate that expires in fewer days is highlighted. */
const CERTIFICATE_EXPIRING_DAYS = 14;

interface Props {
  readonly overview: Overview;
  /** Ids of the services that the visitor may change. */
  readonly own: readonly string[];
  /** By pseudonym. */
  readonly names: ReadonlyMap<string, string>;
  readonly now: number;
  readonly overdue: boolean;
}

/** Services that are down come first, then by name. */
export function ServicesTable({ overview, own, names, now, overdue }: Props) {
  const services = [...overview.services].sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status) || a.name.localeCompare(b.name));
  // Explicit roles: the narrow layout turns the table into blocks, which removes the implicit ones.
  return (
    <table role="table" aria-label="Services">
      <thead role="rowgroup">
        <tr role="row">
          {['Service', 'Status', 'Since', 'Last check', 'Response', 'Certificate', 'Added by', 'Change'].map((title) => (
            <th key={title} role="columnheader" scope="col">{title}</th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {services.map((service) => (
          <tr key={service.id} role="row">
            <td role="cell" className="service">
              <div className="name">{service.name}</div>
              <div className="url">{service.url}</div>
            </td>
            <td role="cell" data-label="Status"><div><StatusCell service={service} overdue={overdue} periodS={overview.periodS} /></div></td>
            <td role="cell" data-label="Since"><Age at={service.since} now={now} /></td>
            <td role="cell" data-label="Last check"><Age at={service.check?.checkedAt} now={now} suffix=" ago" /></td>
            <td role="cell" data-label="Response"><Response check={service.check} /></td>
            <td role="cell" data-label="Certificate"><Certificate endsAt={service.check?.certificateExpiresAt} now={now} /></td>
            <td role="cell" data-label="Added by"><div>{names.get(service.addedBy) ?? 'Unknown person'}</div></td>
            <td role="cell" className="change" data-label="Change"><div className="actions">{own.includes(service.id) ? <Actions service={service} /> : '–'}</div></td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The owner's buttons. Each opens a page that explains the change and asks for confirmation. */
function Actions({ service: { id, name, status } }: { readonly service: Service }) {
  const other = status === 'PAUSED' ? ({ change: 'resume', word: 'Resume' } as const) : ({ change: 'pause', word: 'Pause' } as const);
  return (
    <>
      <HandoffButton key={other.change} className="link" label={`${other.word} ${name}`} open={() => manageService(id, other.change)}>{other.word}</HandoffButton>
      <HandoffButton className="link" label={`Remove ${name}`} open={() => manageService(id, 'remove')}>Remove</HandoffButton>
    </>
  );
}

/** While the report is overdue, the last status is shown as past. */
function StatusCell({ service: { status, suppressed, unseenTicks }, overdue, periodS }: {
  readonly service: Service;
  readonly overdue: boolean;
  readonly periodS: number | undefined;
}) {
  if (overdue) {
    return (
      <>
        <span className="status status-OVERDUE">NO REPORT</span> <span className="subtle">was {status}</span>
      </>
    );
  }
  return (
    <>
      <span className={`status status-${status}`}>{status}</span>
      {unseenTicks !== undefined && periodS !== undefined && <span className="subtle"> Not checked for {longDuration(unseenTicks * periodS)}</span>}
      {suppressed && <div className="subtle suppressed">The last check failed, but so did the backend&apos;s own network. The status has not changed.</div>}
    </>
  );
}

function Age({ at, now, suffix = '' }: { readonly at: number | undefined; readonly now: number; readonly suffix?: string }) {
  if (at === undefined) return <div>–</div>;
  return <div><time dateTime={toIso(at)} title={formatDateTime(at)}>{shortDuration(now - at)}{suffix}</time></div>;
}

function Response({ check }: { readonly check: Check | undefined }) {
  if (check === undefined) return <div>–</div>;
  const { responseTimeMs, httpStatus, failure } = check;
  const parts = [
    responseTimeMs === undefined ? undefined : `${String(responseTimeMs)} ms`,
    failure === undefined ? undefined : reasonText(failure),
    httpStatus === undefined ? undefined : `HTTP ${String(httpStatus)}`,
  ];
  return <div>{parts.filter((part) => part !== undefined).join(', ') || '–'}</div>;
}

function Certificate({ endsAt, now }: { readonly endsAt: number | undefined; readonly now: number }) {
  if (endsAt === undefined) return <div>–</div>;
  const days = daysUntil(endsAt, now);
  const left = days < 0 ? 'expired' : `${String(days)} days left`;
  return <div className={days < CERTIFICATE_EXPIRING_DAYS ? 'expiring' : undefined}><time dateTime={toIso(endsAt)}>{formatDate(endsAt)}</time> ({left})</div>;
}
