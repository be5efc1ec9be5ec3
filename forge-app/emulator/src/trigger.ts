/** The platform's side of a static web trigger: calls the app's function, and sends the output that it names. */
import type { IncomingMessage, ServerResponse } from 'node:http';

import { callback } from '../../apps/badge/src/index';
import { OUTPUTS, type ResponseCode } from '../../apps/badge/src/responses';
import type { Fault, Faults } from './faults';
import type { CallbackLog } from './log';
import { installed, invocationContext } from './platform/installation';

/** Forge's limits for one invocation. */
const HANDLER_LIMIT_MS = 55_000;
const MAX_REQUEST_BYTES = 5 * 1024 * 1024;

export async function serveTrigger(request: IncomingMessage, response: ServerResponse, faults: Faults, log: Pick<CallbackLog, 'add'>): Promise<void> {
  const body = await readBody(request, MAX_REQUEST_BYTES);
  if (body === undefined) return respondAsPlatform(response, 413);

  const fault = faults.take();
  if (fault !== undefined) {
    const status = respondWithFault(response, fault, faults.retryAfterS);
    return log.add(body, { code: fault, status, fault: true });
  }
  const code = await invoke(request, body);
  if (code === undefined) {
    respondAsPlatform(response, 424);
    return log.add(body, { code: 'platform error', status: 424, fault: false });
  }
  const status = respondWithOutput(response, code);
  log.add(body, { code, status, fault: false });
}

/** Reads a whole body as UTF-8 text; undefined when it is longer than allowed. */
export async function readBody(request: IncomingMessage, limitBytes: number): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= limitBytes) chunks.push(chunk);
  }
  return size > limitBytes ? undefined : Buffer.concat(chunks).toString('utf8');
}

async function invoke(request: IncomingMessage, body: string): Promise<ResponseCode | undefined> {
  const headers: Record<string, string[]> = {};
  for (const [name, values] of Object.entries(request.headersDistinct)) if (values !== undefined) headers[name] = values;
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('the function took longer than 55 s')), HANDLER_LIMIT_MS);
  });
  try {
    return (await Promise.race([callback({ headers, body }, invocationContext(installed().cloudId)), limit])).outputKey;
  } catch (error) {
    console.error(`the app's function failed: ${String(error)}`);
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

function respondWithFault(response: ServerResponse, fault: Fault, retryAfterS: number | undefined): number {
  if (fault === 'hang') return 0;
  if (retryAfterS !== undefined) response.setHeader('retry-after', String(retryAfterS));
  const platformStatus = /^http(\d{3})$/.exec(fault)?.[1];
  if (platformStatus === undefined) return respondWithOutput(response, fault as ResponseCode);
  respondAsPlatform(response, Number(platformStatus));
  return Number(platformStatus);
}

function respondWithOutput(response: ServerResponse, code: ResponseCode): number {
  const output = OUTPUTS.find(({ key }) => key === code);
  // Forge responds 500 when a function names an output that the manifest does not declare.
  if (output === undefined) {
    respondAsPlatform(response, 500);
    return 500;
  }
  response.writeHead(output.statusCode, { 'content-type': output.contentType }).end(output.body);
  return output.statusCode;
}

function respondAsPlatform(response: ServerResponse, status: number): void {
  response.writeHead(status, { 'content-type': 'text/plain' }).end('response of the platform\n');
}
