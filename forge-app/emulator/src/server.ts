/** The HTTP side of the emulator: which path does what. */
import type { IncomingMessage, ServerResponse } from 'node:http';

import { readConfig } from '../../apps/badge/src/config';
import type { LinkResult } from '../../apps/badge/src/page-data';
import { readOverview } from '../../apps/badge/src/overview';
import { PAGE_PATH, servePage } from './app-page';
import { Faults } from './faults';
import { invokeResolver } from './invocation';
import { parseObject } from './json';
import type { CallbackLog } from './log';
import { renderPage, STYLE } from './page';
import { installed } from './platform/installation';
import type { Identity } from './state';
import { readBody, serveTrigger } from './trigger';

export interface EmulatorOptions {
  readonly identity: Identity;
  readonly log: CallbackLog;
  readonly backendUrl: string;
  /** `http://127.0.0.1:<port>`. */
  readonly origin: string;
}

const MAX_JSON_BYTES = 64 * 1024;

export function createEmulator({ identity, log, backendUrl, origin }: EmulatorOptions) {
  const faults = new Faults();
  const { host } = new URL(origin);

  return async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A page of another site must neither reach the emulator under another name nor post to it.
    if (request.headers.host !== host) return plain(response, 421, `this emulator is ${origin}/`);
    const url = new URL(request.url ?? '/', origin);
    const route = `${request.method ?? ''} ${url.pathname}`;
    if (route === `POST /x1/${identity.triggerId}`) return serveTrigger(request, response, faults, log);
    if (request.method === 'POST') return request.headers['sec-fetch-site'] === 'cross-site' ? plain(response, 403, 'posted from another site') : post(url.pathname, request, response);
    if (request.method !== 'GET') return plain(response, 405, 'GET and POST only');
    if (url.pathname === '/') return html(response, renderPage({ overview: await readOverview(), callbacks: log.list(), backendUrl, ready: readConfig(process.env).ok }));
    if (url.pathname === '/style.css') return void response.writeHead(200, { 'content-type': 'text/css; charset=utf-8' }).end(STYLE);
    if (url.pathname === '/add-service') return addService(response);
    if (url.pathname === '/handoff.json') return sendHandoff(response, url.searchParams.get('accountId') ?? identity.accountId);
    if (url.pathname === '/log.json') return json(response, 200, { ...(await readOverview()), callbacks: log.list() });
    if (!(await servePage(url.pathname, response))) plain(response, 404, 'no such page');
  };

  async function post(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const data = parseObject(await readBody(request, MAX_JSON_BYTES));
    if (data === undefined) return json(response, 400, { error: 'not a JSON object' });
    if (path === '/platform/context') return json(response, 200, pageContext());
    if (path === '/platform/invoke') return json(response, 200, await invokeAsVisitor(data));
    if (path === '/platform/jira') return json(response, 200, jira(data));
    if (path !== '/faults') return plain(response, 404, 'no such page');
    if (!faults.set(data)) return json(response, 400, { error: 'response: a code of the protocol, hang, http404, http410, http424, http429, http500 or null; times: a number' });
    json(response, 200, data);
  }

  /** What `view.getContext()` returns to the page. */
  function pageContext() {
    const { cloudId } = installed();
    return { accountId: identity.accountId, cloudId, siteUrl: origin, locale: 'en-US', moduleKey: 'health-monitor', extension: { type: 'jira:globalPage', location: `${origin}${PAGE_PATH}` } };
  }

  async function invokeAsVisitor({ functionKey, payload }: Record<string, unknown>): Promise<unknown> {
    const visitor = { accountId: identity.accountId, siteUrl: origin };
    return (await invokeResolver(String(functionKey), (payload ?? {}) as Record<string, unknown>, visitor)) ?? {};
  }

  /** Jira's response to the page's one request: the users of these accounts. */
  function jira({ restPath }: Record<string, unknown>) {
    const query = new URL(String(restPath), origin).searchParams;
    const values = query.getAll('accountId').map((accountId) => ({ accountId, displayName: accountId === identity.accountId ? 'Local Developer' : 'Another User' }));
    return { body: JSON.stringify({ values }), headers: { 'content-type': 'application/json' }, status: 200, statusText: 'OK' };
  }

  async function addService(response: ServerResponse): Promise<void> {
    const result = await registrationLink(identity.accountId);
    if (!result.ok) return json(response, 503, { error: result.problem });
    response.writeHead(302, { location: result.url, 'cache-control': 'no-store' }).end();
  }

  async function sendHandoff(response: ServerResponse, accountId: string): Promise<void> {
    const result = await registrationLink(accountId);
    if (!result.ok) return json(response, 503, { error: result.problem });
    json(response, 200, Object.fromEntries(new URL(result.url).searchParams));
  }

  async function registrationLink(accountId: string): Promise<LinkResult> {
    return (await invokeResolver('addService', { returnUrl: `${origin}${PAGE_PATH}` }, { accountId, siteUrl: origin })) as LinkResult;
  }
}

function html(response: ServerResponse, text: string): void {
  response
    .writeHead(200, {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      'content-security-policy': "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
      'x-content-type-options': 'nosniff',
    })
    .end(text);
}

function plain(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(JSON.stringify(value));
}
