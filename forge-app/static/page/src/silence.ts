import type { Overview } from '../../../src/overview';

/** How many ticks may pass without a callback before nothing that is shown counts any more. */
const SILENT_AFTER_TICKS = 2;
/** What a tick takes to be checked and delivered, in seconds. */
const DELIVERY_S = 60;

/**
 * Whether the backend has been silent for so long that its last word says nothing about now.
 *
 * @param now the server's clock, seconds since 1970
 */
export function isSilent({ heardAt }: Overview, now: number, checkEveryMinutes: number): boolean {
  return heardAt !== undefined && now - heardAt > SILENT_AFTER_TICKS * checkEveryMinutes * 60 + DELIVERY_S;
}
