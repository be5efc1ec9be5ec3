/**
 * The part of Forge's web-trigger request that verification reads.
 *
 * Forge hands headers over as name -> list of values, in whatever case the caller wrote them.
 */
export interface WebTriggerRequest {
  /** The body as Forge decoded it (UTF-8); absent or empty for a request without one. */
  readonly body?: string | undefined;
  readonly headers?: Readonly<Record<string, readonly string[] | undefined>> | undefined;
}

/** Every value of a header, over all spellings of its name. */
export function headerValues(request: WebTriggerRequest, name: string): string[] {
  const wanted = name.toLowerCase();
  return Object.entries(request.headers ?? {})
    .filter(([key]) => key.toLowerCase() === wanted)
    .flatMap(([, values]) => values ?? []);
}

/**
 * The compact JWS of `Authorization: Bearer ...`, or undefined.
 *
 * Two Authorization values are refused rather than choosing one: which of them another component
 * looked at could differ.
 */
export function bearerToken(request: WebTriggerRequest): string | undefined {
  const values = headerValues(request, 'authorization');
  if (values.length !== 1) return undefined;
  return /^Bearer ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)$/i.exec(values[0] ?? '')?.[1];
}
