/**
 * The part of Forge's web-trigger request that verification reads.
 *
 * Forge passes headers as name -> list of values, with the name in the caller's case.
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
 * Rejects two Authorization values: two components could pick different ones.
 */
export function bearerToken(request: WebTriggerRequest): string | undefined {
  const values = headerValues(request, 'authorization');
  if (values.length !== 1) return undefined;
  return /^Bearer ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)$/i.exec(values[0] ?? '')?.[1];
}
