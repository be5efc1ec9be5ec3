/**
 * The static responses of the web trigger. Forge sends one of them by its key, and never a byte that the code made. That
 * keeps the app eligible for "Runs on Atlassian".
 *
 * `manifest.yml` declares the same table; a test compares the two.
 */
export const STATUS_OF_CODE = {
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

export type ResponseCode = keyof typeof STATUS_OF_CODE;

/** The response to one callback, and the reason for the app's own log. */
export interface Decision {
  readonly code: ResponseCode;
  readonly reason?: string | undefined;
}

/** What a static web trigger returns to the platform. */
export interface StaticOutput {
  readonly outputKey: ResponseCode;
}

export interface OutputDeclaration {
  readonly key: ResponseCode;
  readonly statusCode: number;
  readonly contentType: 'application/json';
  readonly body: string;
}

/** The table as the manifest declares it. */
export const OUTPUTS: readonly OutputDeclaration[] = (Object.keys(STATUS_OF_CODE) as ResponseCode[]).map((key) => ({
  key,
  statusCode: STATUS_OF_CODE[key],
  contentType: 'application/json',
  body: JSON.stringify({ code: key }),
}));
