const REASONS: Readonly<Record<string, string>> = {
  dns: 'name not found',
  connect: 'no connection',
  tls: 'certificate or TLS problem',
  timeout: 'no answer in time',
  status: 'unexpected status',
  body: 'answer broke off',
  redirect: 'redirect not followed',
  blocked: 'address not allowed',
  'not-checked': 'Not checked three times in a row',
};
/** Reasons that add nothing to the two statuses of a change. */
const SAID_BY_STATUS: readonly string[] = ['', 'ok', 'paused', 'resumed'];

/** A reason word of the protocol in a person's words; one of a later version as it is. */
export function inWords(reason: string): string {
  return Object.hasOwn(REASONS, reason) ? (REASONS[reason] ?? reason) : reason;
}

/** What to say beside a change of status, if anything. */
export function reasonOfChange(reason: string): string | undefined {
  return SAID_BY_STATUS.includes(reason) ? undefined : inWords(reason);
}
