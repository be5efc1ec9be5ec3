import type { Overview } from './data';
import { transitionReason } from './reasons';
import { formatDateTime, toIso } from './time';

/** The latest transitions, newest first. */
export function RecentTransitions({ services, transitions }: Overview) {
  if (transitions.length === 0) return <p className="subtle">No status changes yet.</p>;
  const names = new Map(services.map(({ id, name }) => [id, name]));
  return (
    <ul className="transitions">
      {transitions.map(({ tick, serviceId, from, to, at, reason }) => (
        <li key={`${String(tick)} ${serviceId}`}>
          <time dateTime={toIso(at)}>{formatDateTime(at)}</time> <strong>{names.get(serviceId) ?? 'Removed service'}</strong>: {from} →{' '}
          <span className={`status status-${to}`}>{to}</span> <span className="subtle">{transitionReason(reason)}</span>
        </li>
      ))}
    </ul>
  );
}
