import type { Overview } from '../../../src/overview';

/** How many ticks may pass without a callback before nothing that is shown counts any more. */
const SILENT_AFTER_TICKS = 2;
/** What a tick takes to be checked and delivered, in seconds. */
const DELIVERY_S = 60;

/**
 * Whether the backend has been silent for so long that its last word says nothing about now. One that tells changes
 * only says itself until when it may be quiet; any other one is heard at every tick.
 *
 * @param now the server's clock, seconds since 1970
 */
export function isSilent({ heardAt, nextUpdateBy }: Overview, now: number, checkEveryMinutes: number): boolean {
  if (heardAt === undefined) return false;
  return now - DELIVERY_S > (nextUpdateBy ?? heardAt + SILENT_AFTER_TICKS * checkEveryMinutes * 60);
}
