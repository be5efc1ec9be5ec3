import type { Check, Overview, Service, Status } from './data';
import { manageService } from './bridge';
import { inWords } from './reasons';
import { Leaving } from './leaving';
import { atMoment, daysUntil, duration, durationInWords, iso, onDay } from './time';

const ORDER: readonly Status[] = ['DOWN', 'UNKNOWN', 'ALIVE', 'PAUSED'];
/** From how many days before its end a certificate is worth a second look. */
const CERTIFICATE_SOON_DAYS = 14;

interface Props {
  readonly overview: Overview;
  /** Ids of the services that the person who looks may change. */
  readonly own: readonly string[];
  /** By pseudonym. */
  readonly names: ReadonlyMap<string, string>;
  readonly now: number;
  readonly silent: boolean;
}

/** What is down comes first; then by name. */
export function ServicesTable({ overview, own, names, now, silent }: Props) {
  const services = [...overview.services].sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status) || a.name.localeCompare(b.name));
  // Roles are named because the narrow layout turns the table into blocks, which would take them away.
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
            <td role="cell" data-label="Status"><div><StatusWord service={service} silent={silent} periodS={overview.periodS} /></div></td>
            <td role="cell" data-label="Since"><Moment at={service.since} now={now} /></td>
            <td role="cell" data-label="Last check"><Moment at={service.check?.checkedAt} now={now} suffix=" ago" /></td>
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

/** What its owner can do with a service. The page that each leads to says what happens, and asks once more. */
function Actions({ service: { id, name, status } }: { readonly service: Service }) {
  const other = status === 'PAUSED' ? ({ change: 'resume', word: 'Resume' } as const) : ({ change: 'pause', word: 'Pause' } as const);
  return (
    <>
      <Leaving key={other.change} className="link" label={`${other.word} ${name}`} go={() => manageService(id, other.change)}>{other.word}</Leaving>
      <Leaving className="link" label={`Remove ${name}`} go={() => manageService(id, 'remove')}>Remove</Leaving>
    </>
  );
}

/** A status that no report confirms any more is not shown as one. */
function StatusWord({ service: { status, held, unseenTicks }, silent, periodS }: {
  readonly service: Service;
  readonly silent: boolean;
  readonly periodS: number | undefined;
}) {
  if (silent) {
    return (
      <>
        <span className="status status-SILENT">NO REPORT</span> <span className="subtle">was {status}</span>
      </>
    );
  }
  return (
    <>
      <span className={`status status-${status}`}>{status}</span>
      {unseenTicks !== undefined && periodS !== undefined && <span className="subtle"> Not checked for {durationInWords(unseenTicks * periodS)}</span>}
      {held && <div className="subtle held">Suppressed: the check failed while the backend&apos;s own network fails.</div>}
    </>
  );
}

function Moment({ at, now, suffix = '' }: { readonly at: number | undefined; readonly now: number; readonly suffix?: string }) {
  if (at === undefined) return <div>–</div>;
  return <div><time dateTime={iso(at)} title={atMoment(at)}>{duration(now - at)}{suffix}</time></div>;
}

function Response({ check }: { readonly check: Check | undefined }) {
  if (check === undefined) return <div>–</div>;
  const { responseTimeMs, httpStatus, failure } = check;
  const parts = [
    responseTimeMs === undefined ? undefined : `${String(responseTimeMs)} ms`,
    failure === undefined ? undefined : inWords(failure),
    httpStatus === undefined ? undefined : `HTTP ${String(httpStatus)}`,
  ];
  return <div>{parts.filter((part) => part !== undefined).join(', ') || '–'}</div>;
}

function Certificate({ endsAt, now }: { readonly endsAt: number | undefined; readonly now: number }) {
  if (endsAt === undefined) return <div>–</div>;
  const days = daysUntil(endsAt, now);
  const left = days < 0 ? 'expired' : `${String(days)} days left`;
  return <div className={days < CERTIFICATE_SOON_DAYS ? 'soon' : undefined}><time dateTime={iso(endsAt)}>{onDay(endsAt)}</time> ({left})</div>;
}
