const TEXTS: Readonly<Record<string, string>> = {
  dns: 'Host name not found',
  connect: 'Connection failed',
  tls: 'TLS or certificate error',
  timeout: 'Timed out',
  status: 'Unexpected HTTP status',
  body: 'Response incomplete',
  redirect: 'Redirect not followed',
  blocked: 'Address not allowed',
  'not-checked': 'Not checked three times in a row',
};
/** Reasons that add nothing to the two statuses of a transition. */
const IMPLIED_BY_STATUS: readonly string[] = ['', 'ok', 'paused', 'resumed'];

/** The text for a reason of the protocol; an unknown reason, from a later version, is shown as it is. */
export function reasonText(reason: string): string {
  return Object.hasOwn(TEXTS, reason) ? (TEXTS[reason] ?? reason) : reason;
}

/** The text beside a transition, if there is one. */
export function transitionReason(reason: string): string | undefined {
  return IMPLIED_BY_STATUS.includes(reason) ? undefined : reasonText(reason);
}
