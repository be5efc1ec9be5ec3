/**
 * The running system that the journey goes through: `make dev`, or the end-to-end tests' stack. Environment:
 * EMULATOR_URL, EMULATOR_STATE_DIR (the emulator's STATE_DIR), AWS_ENDPOINT_URL.
 */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

const PERIOD_MS = 60_000;

function needed(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '') throw new Error(`${name} must describe a running stack, see browser-tests/stack.ts`);
  return value;
}

export const EMULATOR_URL = needed('EMULATOR_URL');
export const PAGE_URL = `${EMULATOR_URL}/health-monitor/`;
const AWS_URL = needed('AWS_ENDPOINT_URL');

export interface Log {
  readonly tick?: number;
  readonly services: readonly { readonly name: string; readonly status: string; readonly url: string }[];
  readonly callbacks: readonly { readonly action: string; readonly code: string }[];
}

export async function emulatorLog(): Promise<Log> {
  return (await (await fetch(`${EMULATOR_URL}/log.json`)).json()) as Log;
}

export function emulatorState(file: string): Record<string, string> {
  return JSON.parse(readFileSync(`${needed('EMULATOR_STATE_DIR')}/${file}`, 'utf8')) as Record<string, string>;
}

/** Replaces the responses of the web trigger; null ends it. */
export async function fault(code: string | null): Promise<void> {
  const response = await fetch(`${EMULATOR_URL}/faults`, { method: 'POST', body: JSON.stringify({ response: code }) });
  if (!response.ok) throw new Error(`the emulator responded ${String(response.status)}`);
}

/** Runs ticks until the app has stored what is expected. */
export async function checkUntil(expected: (log: Log) => boolean): Promise<void> {
  for (let ticks = 0; ticks < 4; ticks += 1) {
    await runTick();
    if (expected(await emulatorLog())) return;
  }
  throw new Error(`after four ticks the app has ${JSON.stringify((await emulatorLog()).services)}`);
}

async function runTick(): Promise<void> {
  const now = Date.now();
  const currentTick = now - (now % PERIOD_MS);
  const tick = Math.max(currentTick - PERIOD_MS, ((await emulatorLog()).tick ?? 0) * 1000 + PERIOD_MS);
  // A tick is accepted from a minute before it begins.
  await pause(Math.max(0, tick - Date.now() - PERIOD_MS + 1000));
  const event = { id: crypto.randomUUID(), source: 'aws.events', 'detail-type': 'Scheduled Event', time: new Date(tick).toISOString().replace('.000', ''), resources: [], detail: {} };
  const response = await fetch(`${AWS_URL}/2015-03-31/functions/${await checkServicesFunction()}/invocations`, { method: 'POST', body: JSON.stringify(event) });
  if (!response.ok || response.headers.has('x-amz-function-error')) throw new Error(`check-services failed: ${await response.text()}`);
}

async function checkServicesFunction(): Promise<string> {
  const { Functions } = (await (await fetch(`${AWS_URL}/2015-03-31/functions`)).json()) as { Functions: { FunctionName: string }[] };
  const found = Functions.find(({ FunctionName }) => FunctionName.includes('CheckServices'));
  if (found === undefined) throw new Error('the local AWS has no function CheckServices');
  return found.FunctionName;
}

/** A web server to monitor, which can be stopped and started. */
export class Target {
  private server: Server | undefined;
  private port = 0;

  /** Loopback, but not the address of the API: a backend does not monitor itself. */
  async start(): Promise<void> {
    this.server = createServer((_, response) => response.end('healthy\n'));
    this.server.listen(this.port, '127.0.0.2');
    await once(this.server, 'listening');
    this.port = (this.server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    if (server === undefined) return;
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  }

  url(path: string): string {
    return `http://127.0.0.2:${String(this.port)}/${path}`;
  }
}
