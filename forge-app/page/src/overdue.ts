import type { Overview } from './data';

/** How much later than promised a report may be, in seconds. */
const DELIVERY_S = 60;

/**
 * Whether the next report is so late that the last one says nothing about now.
 *
 * @param now the server's clock, seconds since 1970
 */
export function isSilent({ nextUpdateBy }: Overview, now: number): boolean {
  return nextUpdateBy !== undefined && now - DELIVERY_S > nextUpdateBy;
}
