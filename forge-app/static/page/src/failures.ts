const FAILURES: Readonly<Record<string, string>> = {
  dns: 'name not found',
  connect: 'no connection',
  tls: 'certificate or TLS problem',
  timeout: 'no answer in time',
  status: 'unexpected status',
  body: 'answer broke off',
  redirect: 'redirect not followed',
  blocked: 'address not allowed',
};

/** A failure class of the protocol in a person's words; a class of a later version as it is. */
export function inWords(failure: string): string {
  return Object.hasOwn(FAILURES, failure) ? (FAILURES[failure] ?? failure) : failure;
}
