/** The HTTP side of the stand-in: which path does what. */
import type { IncomingMessage, ServerResponse } from 'node:http';

import { readConfig } from '../../../../forge-app/src/config';
import { signHandoff } from '../../../../forge-app/src/handoff';
import { CALLBACK_TRIGGER } from '../../../../forge-app/src/installation';
import { readOverview } from '../../../../forge-app/src/overview';
import { Faults } from './faults';
import type { CallbackLog } from './log';
import { renderPage, STYLE } from './page';
import { getAppContext } from './platform/api';
import { installed } from './platform/installation';
import type { Identity } from './state';
import { readBody, serveTrigger } from './trigger';

export interface SiteOptions {
  readonly identity: Identity;
  readonly log: CallbackLog;
  readonly backendUrl: string;
  /** `http://127.0.0.1:<port>`. */
  readonly origin: string;
}

export function createSite({ identity, log, backendUrl, origin }: SiteOptions) {
  const faults = new Faults();

  return async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', origin);
    const route = `${request.method ?? ''} ${url.pathname}`;
    if (route === `POST /x1/${identity.triggerId}`) return serveTrigger(request, response, faults, log);
    if (route === 'GET /') return html(response, renderPage({ overview: await readOverview(), callbacks: log.list(), backendUrl, ready: readConfig(process.env).ok }));
    if (route === 'GET /style.css') return void response.writeHead(200, { 'content-type': 'text/css' }).end(STYLE);
    if (route === 'GET /add-service') return addService(response, url);
    if (route === 'GET /handoff.json') return sendHandoff(response, url);
    if (route === 'GET /log.json') return json(response, 200, { ...(await readOverview()), callbacks: log.list() });
    if (route === 'POST /faults') return switchFaults(request, response);
    response.writeHead(404, { 'content-type': 'text/plain' }).end('no such page\n');
  };

  async function addService(response: ServerResponse, url: URL): Promise<void> {
    const parameters = await handoffParameters(url);
    if (parameters === undefined) return json(response, 503, { error: 'the backend has not answered yet' });
    const query = new URLSearchParams(parameters).toString();
    response.writeHead(302, { location: `${backendUrl}/register?${query}`, 'cache-control': 'no-store' }).end();
  }

  async function sendHandoff(response: ServerResponse, url: URL): Promise<void> {
    const parameters = await handoffParameters(url);
    if (parameters === undefined) return json(response, 503, { error: 'the backend has not answered yet' });
    json(response, 200, parameters);
  }

  async function handoffParameters(url: URL): Promise<Record<string, string> | undefined> {
    const read = readConfig(process.env);
    if (!read.ok) return undefined;
    const { cloudId, triggerUrls } = installed();
    const subject = {
      cloudId,
      accountId: url.searchParams.get('accountId') ?? identity.accountId,
      triggerUrl: triggerUrls[CALLBACK_TRIGGER] ?? '',
      callbackUrl: `${origin}/`,
    };
    const parties = { app: getAppContext().appAri.toString(), backendUrl: read.config.backendUrl };
    return { ...subject, handoff: await signHandoff(subject, parties, read.config.handoffKey, new Date()) };
  }

  async function switchFaults(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const text = (await readBody(request, 4096)) ?? '';
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      return json(response, 400, { error: 'not JSON' });
    }
    if (!faults.set(parsed)) return json(response, 400, { error: 'answer: a code of the protocol, hang, http404, http410, http424, http429, http500 or null; times: a number' });
    json(response, 200, parsed);
  }
}

function html(response: ServerResponse, text: string): void {
  response
    .writeHead(200, {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      'content-security-policy': "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
      'x-content-type-options': 'nosniff',
    })
    .end(text);
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(JSON.stringify(value));
}
