/**
 * The static answers of the web trigger. Forge sends one of these by its key and never anything that
 * the code made, which is what keeps the app eligible for "Runs on Atlassian".
 *
 * `manifest.yml` declares the same table; a test compares the two.
 */
export const STATUS_OF_OUTPUT = {
  ACCEPTED: 202,
  DUPLICATE: 200,
  BAD_REQUEST: 400,
  TOO_LARGE: 413,
  UNAUTHORIZED: 401,
  UNREGISTERED: 403,
  HANDOFF_INVALID: 403,
  HANDOFF_USED: 403,
  KEY_CONFLICT: 409,
  STALE_TICK: 412,
  NOT_CONFIGURED: 503,
  RETRY: 503,
} as const;

export type OutputKey = keyof typeof STATUS_OF_OUTPUT;

/** What a static web trigger returns to the platform. */
export interface StaticOutput {
  readonly outputKey: OutputKey;
}

export interface OutputDeclaration {
  readonly key: OutputKey;
  readonly statusCode: number;
  readonly contentType: 'application/json';
  readonly body: string;
}

/** The table as the manifest declares it. */
export const OUTPUTS: readonly OutputDeclaration[] = (Object.keys(STATUS_OF_OUTPUT) as OutputKey[]).map((key) => ({
  key,
  statusCode: STATUS_OF_OUTPUT[key],
  contentType: 'application/json',
  body: JSON.stringify({ code: key }),
}));
