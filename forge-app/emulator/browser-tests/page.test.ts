import { createServer, type Server } from 'node:http';

import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { Owners, PageData } from '../../apps/badge/src/page-data';
import type { Service, Status } from '../../apps/badge/src/service';
import { signingKey } from '../../packages/verifier/test/signing';
import { listening, EmulatorProcess } from '../test/support/emulator-process';
import { inspect, launch, openPage, WIDTHS } from './browser';

/** Every state of the app's page, with given responses of the resolver. The page, its build and the bridge are the real ones. */
const NOW = 1_795_000_000;
let backend: Server;
let backendUrl: string;
let emulator: EmulatorProcess;
let browser: Browser;

beforeAll(async () => {
  backend = createServer((_, response) => response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: [signingKey().jwk] })));
  backendUrl = await listening(backend);
  emulator = new EmulatorProcess(backendUrl);
  [browser] = await Promise.all([launch(), emulator.start()]);
});

afterAll(async () => {
  await browser.close();
  await emulator.stop();
  emulator.remove();
  backend.close();
});

function service(index: number, fields: Partial<Service> = {}): Service {
  const check = { checkedAt: NOW - 20, responseTimeMs: 84, attempts: 1, httpStatus: 200, certificateExpiresAt: NOW + 69 * 86_400 };
  return { id: `service${String(index)}`, name: `Service ${String(index)}`, url: `https://service-${String(index)}.example/health`, status: 'ALIVE', since: NOW - 7300, suppressed: false, addedBy: 'p-alice', check, ...fields };
}

type Configured = Extract<PageData, { configured: true }>;

function data(services: Service[], overview: Partial<Configured['overview']> = {}): Configured {
  return { configured: true, own: services.map(({ id }) => id), now: NOW, overview: { services, transitions: [], receivedAt: NOW - 18, nextUpdateBy: NOW + 582, periodS: 300, tick: NOW - 25, ...overview } };
}

/** Serves the resolver's responses: the page's data, and the accounts of the owners. */
async function show(page: Page, response: PageData | 'failure', owners: Owners = {}): Promise<void> {
  await page.route('**/platform/invoke', (route) => {
    if (response === 'failure') return route.fulfill({ status: 500, body: '' });
    const { functionKey } = route.request().postDataJSON() as { functionKey: string };
    return route.fulfill({ json: functionKey === 'readOwners' ? owners : response });
  });
  await page.goto(`${emulator.url}/health-monitor/`);
}

const down = { tick: NOW - 325, serviceId: 'service1', from: 'ALIVE' as Status, to: 'DOWN' as Status, at: NOW - 320, reason: 'timeout' };
const mixed = data(
  [
    service(1, { name: 'Shop', status: 'DOWN', since: NOW - 320, check: { checkedAt: NOW - 20, attempts: 3, failure: 'timeout' } }),
    service(2, { name: 'Blog', check: { checkedAt: NOW - 20, responseTimeMs: 12, attempts: 1, httpStatus: 200, certificateExpiresAt: NOW + 5 * 86_400 } }),
    service(3, { name: 'Search', suppressed: true }),
    service(4, { name: 'Archive', status: 'PAUSED' }),
    service(5, { name: 'New one', status: 'UNKNOWN', since: undefined, check: undefined }),
    service(6, { name: 'Crowded', unseenTicks: 2 }),
    service(7, { name: 'Forgotten', status: 'UNKNOWN', unseenTicks: 13 }),
  ],
  { transitions: [down, { ...down, serviceId: 'service7', to: 'UNKNOWN', reason: 'not-checked' }, { ...down, serviceId: 'service2', to: 'UNKNOWN', reason: 'solar-flare' }, { ...down, tick: NOW - 9000, serviceId: 'gone', from: 'DOWN', to: 'ALIVE', at: NOW - 8990, reason: 'ok' }] },
);

const states: [name: string, response: PageData | 'failure', text: string][] = [
  ['services', mixed, '7 services, 1 down, updated 18 s ago'],
  ['empty', data([], { receivedAt: undefined, nextUpdateBy: undefined, periodS: undefined, tick: undefined }), 'It is checked every few minutes'],
  ['emptied', data([], { receivedAt: undefined, nextUpdateBy: undefined }), 'It is checked every 5 minutes'],
  ['overdue', data([service(1, { unseenTicks: 1 })], { receivedAt: NOW - 718, nextUpdateBy: NOW - 118 }), 'The last report arrived 11 min ago. The next one was due 1 min ago.'],
  ['error', 'failure', 'The services could not be loaded.'],
  ['not-configured', { configured: false, unusable: ['BACKEND_URL', 'BACKEND_PUBLIC_KEY', 'HANDOFF_PRIVATE_KEY'] }, 'Backend URL not configured'],
  ['fifty', data(Array.from({ length: 50 }, (_, at) => service(at, at % 9 === 0 ? { status: 'DOWN', name: `A service with quite a long name, number ${String(at)}` } : {}))), '50 services, 6 down'],
];

describe.each(WIDTHS)('at %i px', (width) => {
  it.each(states)('the state "%s" is readable', async (name, response, text) => {
    const page = await openPage(browser, width);
    await show(page, response);
    await page.getByText(text).waitFor();
    await inspect(page, name);
    await page.context().close();
  });

  it('the emulator\'s own page is readable', async () => {
    const page = await openPage(browser, width);
    await page.goto(emulator.url);
    await page.getByRole('heading', { name: 'Callbacks' }).waitFor();
    await inspect(page, 'callbacks');
    await page.context().close();
  });
});

describe('the page', () => {
  it('says that it is loading', async () => {
    const page = await openPage(browser);
    let respond = (): void => undefined;
    const asked = new Promise<void>((resolve) => (respond = resolve));
    await page.route('**/platform/invoke', async (route) => {
      await asked;
      await route.fulfill({ json: mixed });
    });
    await page.goto(`${emulator.url}/health-monitor/`);
    await page.getByRole('status').getByText('Loading…').waitFor();
    await inspect(page, 'loading');
    respond();
    await page.getByText('Shop').first().waitFor();
    await page.context().close();
  });

  it('shows services that are down first, with the reason', async () => {
    const page = await openPage(browser);
    await show(page, mixed);
    const rows = page.getByRole('table', { name: 'Services' }).getByRole('row');
    await rows.nth(1).waitFor();
    expect(await rows.nth(1).innerText()).toMatch(/Shop[^]*DOWN[^]*5 min[^]*Timed out/);
    expect(await rows.nth(4).innerText()).toMatch(/Blog[^]*ALIVE[^]*\(5 days left\)/);
    expect(await page.getByRole('listitem').allInnerTexts()).toEqual([
      expect.stringMatching(/Shop: ALIVE → DOWN Timed out/),
      expect.stringMatching(/Forgotten: ALIVE → UNKNOWN Not checked three times in a row/),
      expect.stringMatching(/Blog: ALIVE → UNKNOWN solar-flare/),
      expect.stringMatching(/Removed service: DOWN → ALIVE\s*$/),
    ]);
    await page.context().close();
  });

  it('says beside the status for how long a service was not checked', async () => {
    const page = await openPage(browser);
    await show(page, mixed);
    const status = (name: string) => page.getByRole('row').filter({ hasText: name }).getByRole('cell').nth(1).innerText();
    await page.getByText('Crowded').first().waitFor();
    expect(await status('Crowded')).toBe('ALIVE Not checked for 10 minutes');
    expect(await status('Forgotten')).toMatch(/^UNKNOWN\s+Not checked for 1 hour$/);
    expect(await status('Blog')).toBe('ALIVE');
    expect(await page.getByRole('row').filter({ hasText: 'Crowded' }).locator('.subtle').innerText()).toContain('Not checked');
    await page.context().close();
  });

  it('never shows an old ALIVE', async () => {
    const page = await openPage(browser);
    await show(page, data([service(1, { unseenTicks: 1 })], { receivedAt: NOW - 700, nextUpdateBy: NOW - 61 }));
    await page.getByRole('alert').waitFor();
    expect(await page.getByRole('row').nth(1).innerText()).toMatch(/NO REPORT[^]*was ALIVE/);
    expect(await page.locator('.status-ALIVE').count()).toBe(0);
    expect(await page.getByText('updated').count() + (await page.getByText('Not checked').count())).toBe(0);
    await page.context().close();
  });

  it('expects the next report until it is 60 s late', async () => {
    const page = await openPage(browser);
    await show(page, data([service(1)], { receivedAt: NOW - 640, nextUpdateBy: NOW - 55 }));
    await page.getByText('updated 10 min ago').waitFor();
    expect(await page.getByRole('alert').count()).toBe(0);
    await page.context().close();
  });

  it('notices an overdue report while it stays open, even when it cannot refresh', async () => {
    const page = await openPage(browser);
    await page.clock.install();
    await show(page, data([service(1)]));
    await page.getByText('updated 18 s ago').waitFor();
    await page.unroute('**/platform/invoke');
    await page.route('**/platform/invoke', (route) => route.fulfill({ status: 500, body: '' }));
    await page.clock.fastForward('15:00');
    await page.getByText('No reports from the backend.').waitFor();
    await page.getByText('This page could not be refreshed.').waitFor();
    await page.context().close();
  });

  it('recovers from an error with "Try again"', async () => {
    const page = await openPage(browser);
    await show(page, 'failure');
    const retry = page.getByRole('button', { name: 'Try again' });
    await retry.waitFor();
    await page.unroute('**/platform/invoke');
    await page.route('**/platform/invoke', (route) => route.fulfill({ json: mixed }));
    await retry.click();
    await page.getByText('Shop').first().waitFor();
    await page.context().close();
  });

  it('shows the names of owners from Jira', async () => {
    const page = await openPage(browser);
    await page.route('**/platform/jira', (route) =>
      route.fulfill({ json: { body: JSON.stringify({ values: [{ accountId: 'a:1', displayName: 'Alice Example' }] }), headers: {}, status: 200, statusText: 'OK' } }),
    );
    const asked: string[] = [];
    page.on('request', (request) => {
      if (request.url().endsWith('/platform/invoke')) asked.push((request.postDataJSON() as { functionKey: string }).functionKey);
    });
    await page.clock.install();
    await show(page, data([service(1), service(2, { addedBy: 'p-bob' }), service(3, { addedBy: 'p-gone' })]), { 'p-alice': 'a:1', 'p-bob': 'b:2' });
    await page.getByText('Alice Example').waitFor();
    expect(await page.getByRole('row').nth(2).innerText()).toContain('Unknown person');
    expect(await page.getByRole('row').nth(3).innerText()).toContain('Unknown person');
    await page.clock.fastForward(16_000);
    await expect.poll(() => asked.filter((key) => key === 'readPage').length).toBeGreaterThan(1);
    expect(asked.filter((key) => key === 'readOwners')).toHaveLength(1);
    await page.context().close();
  });

  it('offers the person who added a service to pause or resume it, and to remove it', async () => {
    const page = await openPage(browser);
    await show(page, { ...mixed, own: ['service2', 'service4'] });
    const buttons = async (name: string) => {
      const found = await page.getByRole('row').filter({ hasText: name }).getByRole('button').all();
      return Promise.all(found.map((button) => button.getAttribute('aria-label')));
    };
    await page.getByText('Shop').first().waitFor();
    expect(await buttons('Blog')).toEqual(['Pause Blog', 'Remove Blog']);
    expect(await buttons('Archive')).toEqual(['Resume Archive', 'Remove Archive']);
    expect(await buttons('Search')).toEqual([]);
    await page.context().close();
  });

  it('opens the page for the chosen change, and shows the reason when there is none', async () => {
    const page = await openPage(browser);
    const asked: unknown[] = [];
    await page.route('**/platform/invoke', (route) => {
      const call = route.request().postDataJSON() as { functionKey: string; payload: unknown };
      if (call.functionKey === 'readPage') return route.fulfill({ json: mixed });
      if (call.functionKey === 'readOwners') return route.fulfill({ json: {} });
      asked.push(call);
      return route.fulfill({ json: asked.length === 1 ? { ok: false, problem: 'no-service' } : { ok: true, url: `${backendUrl}/manage?handoff=a` } });
    });
    await page.route(`${backendUrl}/**`, (route) => route.fulfill({ contentType: 'text/html', body: '<title>Remove</title>' }));
    await page.goto(`${emulator.url}/health-monitor/`);
    await page.getByRole('button', { name: 'Remove Blog' }).click();
    await page.getByRole('alert').getByText('This service is no longer monitored.').waitFor();
    await inspect(page, 'change-refused');
    await page.getByRole('button', { name: 'Remove Blog' }).click();
    await page.getByRole('dialog', { name: 'You are leaving Atlassian' }).getByRole('button', { name: 'Continue' }).click();
    await page.waitForURL(`${backendUrl}/manage?*`);
    const payload = { serviceId: 'service2', change: 'remove', returnUrl: `${emulator.url}/health-monitor/` };
    expect(asked).toEqual([{ functionKey: 'manageService', payload }, { functionKey: 'manageService', payload }]);
    await page.context().close();
  });

  it('shows script in any field as text', async () => {
    const script = '<img src=x onerror="document.title=`owned`">';
    const page = await openPage(browser);
    await page.route('**/platform/jira', (route) =>
      route.fulfill({ json: { body: JSON.stringify({ values: [{ accountId: 'a', displayName: script }] }), headers: {}, status: 200, statusText: 'OK' } }),
    );
    const hostile = service(1, { name: script, url: `https://a.example/${script}`, status: script as Status, check: { checkedAt: NOW, failure: script } });
    await show(page, data([hostile], { transitions: [{ ...down, reason: script, from: script as Status }] }), { 'p-alice': 'a' });
    await page.getByText(script).first().waitFor();
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.title()).toBe('Health Monitor');
    await page.context().close();
  });

  it('asks before it leaves, and stays on Escape, with the keyboard alone', async () => {
    const page = await openPage(browser);
    const asked: string[] = [];
    await page.route(`${backendUrl}/**`, (route) => {
      asked.push(route.request().url());
      return route.fulfill({ contentType: 'text/html', body: '<title>Registration</title>' });
    });
    await page.goto(`${emulator.url}/health-monitor/`);
    await page.getByRole('button', { name: 'Add service' }).waitFor();
    for (let presses = 0; presses < 10 && (await page.locator('button:focus').count()) === 0; presses += 1) await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog', { name: 'You are leaving Atlassian' });
    await dialog.waitFor();
    await inspect(page, 'leaving');
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    expect(asked).toEqual([]);

    await page.getByRole('button', { name: 'Add service' }).click();
    await dialog.waitFor();
    await page.keyboard.press('Enter');
    await page.waitForURL(`${backendUrl}/register?*`);
    expect(asked).toHaveLength(1);
    await page.context().close();
  });

  it('calls the resolver once for a double click', async () => {
    const page = await openPage(browser);
    const calls: string[] = [];
    page.on('request', (request) => {
      if (request.url().endsWith('/platform/invoke')) calls.push(request.postData() ?? '');
    });
    await page.goto(`${emulator.url}/health-monitor/`);
    await page.getByRole('button', { name: 'Add service' }).dblclick();
    await page.getByRole('dialog').waitFor();
    expect(calls.filter((call) => call.includes('addService'))).toHaveLength(1);
    await page.context().close();
  });
});
