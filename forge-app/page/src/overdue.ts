import type { Overview } from './data';

/** How much later than due a report may arrive, in seconds. */
const GRACE_S = 60;

/**
 * Whether the next report is so late that the last one says nothing about the present.
 *
 * @param now the server's clock, seconds since 1970
 */
export function isOverdue({ nextUpdateBy }: Overview, now: number): boolean {
  return nextUpdateBy !== undefined && now - GRACE_S > nextUpdateBy;
}
