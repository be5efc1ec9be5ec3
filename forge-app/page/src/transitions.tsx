import type { Overview } from './data';
import { reasonOfChange } from './reasons';
import { atMoment, iso } from './time';

/** The latest changes of status, newest first. */
export function RecentChanges({ services, transitions }: Overview) {
  if (transitions.length === 0) return <p className="subtle">No service has changed its status yet.</p>;
  const names = new Map(services.map(({ id, name }) => [id, name]));
  return (
    <ul className="changes">
      {transitions.map(({ tick, serviceId, from, to, at, reason }) => (
        <li key={`${String(tick)} ${serviceId}`}>
          <time dateTime={iso(at)}>{atMoment(at)}</time> <strong>{names.get(serviceId) ?? 'A removed service'}</strong>: {from} →{' '}
          <span className={`status status-${to}`}>{to}</span> <span className="subtle">{reasonOfChange(reason)}</span>
        </li>
      ))}
    </ul>
  );
}
