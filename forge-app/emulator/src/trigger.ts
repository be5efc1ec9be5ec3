/** The platform's side of a static web trigger: HTTP in, the app's function, one of the declared outputs out. */
import type { IncomingMessage, ServerResponse } from 'node:http';

import { callback } from '../../apps/badge/src/index';
import { OUTPUTS, type OutputKey } from '../../apps/badge/src/outputs';
import type { Fault, Faults } from './faults';
import type { CallbackLog } from './log';
import { installed } from './platform/installation';

/** Forge's limits for one invocation. */
const HANDLER_LIMIT_MS = 55_000;
const MAX_REQUEST_BYTES = 5 * 1024 * 1024;

export async function serveTrigger(request: IncomingMessage, response: ServerResponse, faults: Faults, log: Pick<CallbackLog, 'add'>): Promise<void> {
  const body = await readBody(request, MAX_REQUEST_BYTES);
  if (body === undefined) return answerAsPlatform(response, 413);

  const fault = faults.take();
  if (fault !== undefined) {
    const status = answerFault(response, fault, faults.retryAfterS);
    return log.add(body, { code: fault, status, fault: true });
  }
  const output = await invoke(request, body);
  if (output === undefined) {
    answerAsPlatform(response, 424);
    return log.add(body, { code: 'platform error', status: 424, fault: false });
  }
  const status = answerOutput(response, output);
  log.add(body, { code: output, status, fault: false });
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

async function invoke(request: IncomingMessage, body: string): Promise<OutputKey | undefined> {
  const { cloudId } = installed();
  const headers: Record<string, string[]> = {};
  for (const [name, values] of Object.entries(request.headersDistinct)) if (values !== undefined) headers[name] = values;
  const context = { installContext: `ari:cloud:jira::site/${cloudId}`, installation: { contexts: [{ cloudId }] } };
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('the function took longer than 55 s')), HANDLER_LIMIT_MS);
  });
  try {
    return (await Promise.race([callback({ headers, body }, context), limit])).outputKey;
  } catch (error) {
    console.error(`the app's function failed: ${String(error)}`);
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

function answerFault(response: ServerResponse, fault: Fault, retryAfterS: number | undefined): number {
  if (fault === 'hang') return 0;
  if (retryAfterS !== undefined) response.setHeader('retry-after', String(retryAfterS));
  const platformStatus = /^http(\d{3})$/.exec(fault)?.[1];
  if (platformStatus === undefined) return answerOutput(response, fault as OutputKey);
  answerAsPlatform(response, Number(platformStatus));
  return Number(platformStatus);
}

function answerOutput(response: ServerResponse, key: OutputKey): number {
  const output = OUTPUTS.find((declared) => declared.key === key);
  // Forge answers 500 when a function names an output that the manifest does not declare.
  if (output === undefined) {
    answerAsPlatform(response, 500);
    return 500;
  }
  response.writeHead(output.statusCode, { 'content-type': output.contentType }).end(output.body);
  return output.statusCode;
}

function answerAsPlatform(response: ServerResponse, status: number): void {
  response.writeHead(status, { 'content-type': 'text/plain' }).end('answered by the platform\n');
}
