/**
 * Emulates a Forge site: a development tool that runs the companion app without an Atlassian account.
 *
 *     node dist/emulator.mjs        serves the emulator
 *     node dist/emulator.mjs keys   prints the app's public JWKS, for the backend's ForgeAppPublicKey
 *
 * Environment: STATE_DIR, and for serving BACKEND_URL, EMULATOR_PORT (8900) and EMULATOR_ORIGIN (that port).
 * Binds 127.0.0.1 only.
 */
import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

import { normalizeBackendUrl } from 'forge-callback-verifier';

import { CALLBACK_TRIGGER } from '../../apps/badge/src/installation';
import { CallbackLog } from './log';
import { install } from './platform/installation';
import { kvs } from './platform/kvs';
import { createEmulator } from './server';
import { StateFolder } from './state';

const RETRY_MS = 1000;

function fail(message: string): never {
  console.error(`emulator: ${message}`);
  process.exit(2);
}

function serve(state: StateFolder): void {
  const port = Number(process.env['EMULATOR_PORT'] ?? '8900');
  const backendUrl = normalizeBackendUrl(process.env['BACKEND_URL']);
  if (backendUrl === undefined) fail('BACKEND_URL must be an https URL, or http on 127.0.0.1');
  const origin = process.env['EMULATOR_ORIGIN'] ?? `http://127.0.0.1:${String(port)}`;
  const identity = state.identity();
  install({
    cloudId: identity.cloudId,
    appId: identity.appId,
    triggerUrls: { [CALLBACK_TRIGGER]: `${origin}/x1/${identity.triggerId}` },
  });
  kvs.persistTo(state.path('kvs.json'));
  // Forge variables reach an app's code as environment variables; so they do here.
  process.env['HANDOFF_PRIVATE_KEY'] = JSON.stringify(state.handoffKey());

  const handle = createEmulator({ identity, log: new CallbackLog(state), backendUrl, origin });
  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => {
      console.error(`emulator: ${String(error)}`);
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain' });
      response.end('the emulator failed\n');
    });
  });
  server.on('error', (error) => fail(error.message));
  server.listen(port, '127.0.0.1', () => console.log(`Forge emulator: ${origin}/`));

  const stopping = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      stopping.abort();
      server.close();
      server.closeAllConnections();
    });
  }
  void fetchBackendKey(backendUrl, stopping.signal);
}

/** Fetches the backend's deployment key, with retries, and sets the Forge variable that pins it. */
async function fetchBackendKey(backendUrl: string, stop: AbortSignal): Promise<void> {
  console.log(`waiting for ${backendUrl}/.well-known/jwks.json`);
  while (!stop.aborted) {
    const jwks = await fetchText(`${backendUrl}/.well-known/jwks.json`, stop);
    if (jwks !== undefined) {
      process.env['BACKEND_PUBLIC_KEY'] = jwks;
      console.log("the backend's public key is pinned");
      return;
    }
    await pause(RETRY_MS, undefined, { signal: stop }).catch(() => undefined);
  }
}

async function fetchText(url: string, stop: AbortSignal): Promise<string | undefined> {
  try {
    const response = await fetch(url, { signal: AbortSignal.any([stop, AbortSignal.timeout(10_000)]) });
    return response.ok ? await response.text() : undefined;
  } catch {
    return undefined;
  }
}

const stateDir = process.env['STATE_DIR'];
if (stateDir === undefined || stateDir === '') fail('STATE_DIR must name a folder for keys and state');
const state = new StateFolder(stateDir);
const command = process.argv[2];
if (command === 'keys') console.log(JSON.stringify(state.publicJwks()));
else if (command === undefined) serve(state);
else fail(`unknown command ${command}; there is only "keys"`);
