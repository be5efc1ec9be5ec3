/** Formats instants (seconds since 1970) in the browser's language and time zone, and durations in English. */

const DAY_S = 86_400;

const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });

export function formatDateTime(seconds: number): string {
  return dateTime.format(seconds * 1000);
}

export function formatDate(seconds: number): string {
  return date.format(seconds * 1000);
}

export function toIso(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}

/** `45 s`, `12 min`, `5 h`, `3 days`: the largest unit that fits, rounded down. */
export function shortDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${String(whole)} s`;
  if (whole < 3600) return `${String(Math.floor(whole / 60))} min`;
  if (whole < 2 * DAY_S) return `${String(Math.floor(whole / 3600))} h`;
  return `${String(Math.floor(whole / DAY_S))} days`;
}

/** `5 minutes`, `1 hour`, `3 days`: the same in full words, at least minutes. */
export function longDuration(seconds: number): string {
  const [value, unit] = seconds < 3600 ? [seconds / 60, 'minute'] as const : seconds < 2 * DAY_S ? [seconds / 3600, 'hour'] as const : [seconds / DAY_S, 'day'] as const;
  const whole = Math.floor(value);
  return `${String(whole)} ${unit}${whole === 1 ? '' : 's'}`;
}

export function daysUntil(seconds: number, now: number): number {
  return Math.floor((seconds - now) / DAY_S);
}
