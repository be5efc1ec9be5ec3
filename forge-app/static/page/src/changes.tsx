import type { Overview } from '../../../src/overview';
import { inWords } from './failures';
import { atMoment, iso } from './time';

/** The latest changes of status, newest first. Only a failure needs a reason: the other words say it all. */
export function RecentChanges({ services, transitions }: Overview) {
  if (transitions.length === 0) return <p className="subtle">No service has changed its status yet.</p>;
  const names = new Map(services.map(({ id, name }) => [id, name]));
  return (
    <ul className="changes">
      {transitions.map(({ tick, serviceId, from, to, at, reason }) => (
        <li key={`${String(tick)} ${serviceId}`}>
          <time dateTime={iso(at)}>{atMoment(at)}</time> <strong>{names.get(serviceId) ?? 'A removed service'}</strong>: {from} →{' '}
          <span className={`status status-${to}`}>{to}</span> {to === 'DOWN' && reason !== '' && <span className="subtle">{inWords(reason)}</span>}
        </li>
      ))}
    </ul>
  );
}
