import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { signHandoff } from '../../apps/badge/src/handoff';
import { inspect, launch, openPage, WIDTHS } from './browser';
import { checkUntil, fault, PAGE_URL, emulatorLog, emulatorState, EMULATOR_URL, Target } from './stack';

/** A person's whole journey through the deployed functions: out of the site, through the form, and back. */
const target = new Target();
let browser: Browser;
let page: Page;

beforeAll(async () => {
  [browser] = await Promise.all([launch(), target.start()]);
});

afterAll(async () => {
  await browser.close();
  await target.stop();
});

beforeEach(async () => {
  page = await openPage(browser);
});

afterEach(async () => {
  await fault(null);
  await page.context().close();
});

/** From the page to the registration form. */
async function toForm(on: Page = page): Promise<void> {
  await on.goto(PAGE_URL);
  await on.getByRole('button', { name: 'Add service' }).click();
  await on.getByRole('dialog', { name: 'You are leaving Atlassian' }).getByRole('button', { name: 'Continue' }).click();
  await on.getByRole('heading', { name: 'Add a service' }).waitFor();
}

async function submit(name: string, url: string): Promise<void> {
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('URL to check').fill(url);
  await page.getByRole('button', { name: 'Add service' }).click();
}

/** Inspects the same page at every width, without a second submission. */
async function inspectEverywhere(name: string): Promise<void> {
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 800 });
    await inspect(page, name);
  }
  await page.setViewportSize({ width: WIDTHS[0], height: 800 });
}

const heading = (name: string | RegExp) => page.getByRole('heading', { level: 1, name });
const row = (name: string) => page.getByRole('row').filter({ hasText: name });
const registered = async (url: string) => (await emulatorLog()).services.filter((service) => service.url === url);

describe('the journey', () => {
  it('adds a service, and sees it ALIVE, DOWN, and ALIVE again', async () => {
    await toForm();
    await submit('Journey shop', target.url('shop'));
    await heading('Journey shop is being monitored').waitFor();
    await page.getByText('Alive').waitFor();
    await inspectEverywhere('journey-added');
    await page.getByRole('link', { name: 'Back to Jira' }).click();
    await page.waitForURL(PAGE_URL);
    await row('Journey shop').getByText('ALIVE').waitFor();
    await row('Journey shop').getByText('Local Developer').waitFor();

    await target.stop();
    await checkUntil(({ services }) => services.some(({ name, status }) => name === 'Journey shop' && status === 'DOWN'));
    await page.reload();
    await row('Journey shop').getByText('DOWN').waitFor();
    await page.getByRole('listitem').filter({ hasText: 'Journey shop: ALIVE → DOWN' }).first().waitFor();
    await inspectEverywhere('journey-down');

    await target.start();
    await checkUntil(({ services }) => services.some(({ name, status }) => name === 'Journey shop' && status === 'ALIVE'));
    await page.reload();
    await row('Journey shop').getByText('ALIVE').waitFor();
  });

  it('pauses, resumes and removes a service, and sees each after the next tick', async () => {
    const url = target.url('changed');
    await toForm();
    await submit('Changed shop', url);
    await heading('Changed shop is being monitored').waitFor();
    const change = async (word: string, done: string, expected: (status: string | undefined) => boolean) => {
      await page.goto(PAGE_URL);
      await page.getByRole('button', { name: `${word} Changed shop` }).click();
      await page.getByRole('dialog', { name: 'You are leaving Atlassian' }).getByRole('button', { name: 'Continue' }).click();
      await heading(`${word} Changed shop?`).waitFor();
      await page.getByText(url).waitFor();
      await inspectEverywhere(`journey-${word.toLowerCase()}`);
      await page.getByRole('button', { name: `${word} service` }).click();
      await heading(done).waitFor();
      await inspectEverywhere(`journey-${word.toLowerCase()}d`);
      // A reload must not repeat the change.
      await page.reload();
      await heading(done).waitFor();
      await page.getByRole('link', { name: 'Back to Jira' }).click();
      await page.waitForURL(PAGE_URL);
      await checkUntil(({ services }) => expected(services.find((service) => service.url === url)?.status));
      await page.reload();
    };
    await change('Pause', 'Changed shop is paused', (status) => status === 'PAUSED');
    await row('Changed shop').getByText('PAUSED').waitFor();
    await change('Resume', 'Changed shop is being monitored again', (status) => status === 'ALIVE');
    await row('Changed shop').getByText('ALIVE').waitFor();
    await change('Remove', 'Changed shop is removed', (status) => status === undefined);
    await row('Journey shop').waitFor();
    expect(await row('Changed shop').count()).toBe(0);

    await toForm();
    await submit('Changed shop again', url);
    await heading('Changed shop again is being monitored').waitFor();
    expect(await registered(url)).toHaveLength(1);
  });

  it('works with the keyboard alone', async () => {
    await page.goto(PAGE_URL);
    await page.getByRole('button', { name: 'Add service' }).waitFor();
    await tabTo('Add service');
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    await tabTo('Continue');
    await page.keyboard.press('Enter');
    await page.getByLabel('Name').waitFor();
    await tabTo('name');
    await page.keyboard.type('Keyboard shop');
    await page.keyboard.press('Tab');
    await page.keyboard.type(target.url('keyboard'));
    await page.keyboard.press('Enter');
    await heading('Keyboard shop is being monitored').waitFor();
    await tabTo('Back to Jira');
    await page.keyboard.press('Enter');
    await page.waitForURL(PAGE_URL);
    await row('Keyboard shop').waitFor();
  });

  it('registers once when the form is sent twice', async () => {
    const url = target.url('twice');
    await toForm();
    await page.getByLabel('Name').fill('Double shop');
    await page.getByLabel('URL to check').fill(url);
    await page.getByRole('button', { name: 'Add service' }).dblclick();
    await heading(/^Double shop (is being|was already) monitored$/).waitFor();
    expect(await registered(url)).toHaveLength(1);
  });

  it('survives the back button and a reload of the result', async () => {
    const url = target.url('again');
    await toForm();
    await submit('Patient shop', url);
    await heading('Patient shop is being monitored').waitFor();
    await page.reload();
    await heading('Patient shop was already monitored').waitFor();
    await page.goBack();
    await heading('Add a service').waitFor();
    await submit('Patient shop', url);
    await heading('Patient shop was already monitored').waitFor();
    expect(await registered(url)).toHaveLength(1);
  });

  it('can be finished with the same form after the app refused the callback', async () => {
    const url = target.url('refused');
    await toForm();
    await fault('UNAUTHORIZED');
    await submit('Refused shop', url);
    await page.getByRole('heading', { level: 1 }).filter({ hasNotText: 'Add a service' }).or(page.getByRole('alert')).first().waitFor();
    await inspectEverywhere('journey-callback-refused');
    expect(await registered(url)).toEqual([]);
    await fault(null);
    await page.goBack();
    await submit('Refused shop', url);
    await heading('Refused shop is being monitored').waitFor();
    expect(await registered(url)).toHaveLength(1);
  });

  it.each<[string, (url: string) => Promise<unknown>]>([
    ['a reload, which submits the form again', () => page.reload()],
    ['the back button and the same form', async (url) => {
      await page.goBack();
      await submit('Interrupted shop', url);
    }],
  ])('can be finished after the backend died during the submission, by %s', async (way, finish) => {
    const url = target.url(way.replaceAll(/[^a-z]/g, ''));
    await toForm();
    await page.route('**/addedMonitorService', (route) => route.abort('connectionrefused'));
    await submit('Interrupted shop', url);
    await expect.poll(() => page.url()).toMatch(/^chrome-error:/);
    await page.unroute('**/addedMonitorService');
    await finish(url);
    await heading('Interrupted shop is being monitored').waitFor();
    expect(await registered(url)).toHaveLength(1);
  });

  it('leaves the page usable when the backend cannot be reached', async () => {
    await page.route('**/register?*', (route) => route.abort('connectionrefused'));
    await page.goto(PAGE_URL);
    await page.getByRole('button', { name: 'Add service' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Continue' }).click();
    // Chromium shows a page of its own; waiting for a URL would report the failed navigation instead.
    await expect.poll(() => page.url()).toMatch(/^chrome-error:/);
    await page.unroute('**/register?*');
    await page.goto(PAGE_URL);
    await page.getByRole('button', { name: 'Add service' }).waitFor();
  });
});

describe.each(WIDTHS)('the form at %i px', (width) => {
  beforeEach(async () => {
    await page.setViewportSize({ width, height: 800 });
  });

  it('is readable', async () => {
    await toForm();
    await inspect(page, 'journey-form');
  });

  it('says beside the field why a URL is refused, and keeps the input', async () => {
    await toForm();
    await submit('Metadata', 'http://169.254.169.254/latest/meta-data');
    const field = page.getByLabel('URL to check');
    await page.locator('[aria-invalid="true"]').waitFor();
    expect(await field.getAttribute('aria-invalid')).toBe('true');
    const described = (await field.getAttribute('aria-describedby'))?.split(' ') ?? [];
    const texts = await Promise.all(described.map((id) => page.locator(`#${id}`).innerText()));
    expect(texts.join('\n')).toMatch(/public|not allowed|cannot be checked|address/i);
    expect(await field.inputValue()).toBe('http://169.254.169.254/latest/meta-data');
    expect(await page.getByLabel('Name').inputValue()).toBe('Metadata');
    await inspect(page, 'journey-url-refused');
  });

  it('says what to do when the hand-off has expired', async () => {
    await page.goto(await registrationLink(new Date(Date.now() - 1_000_000)));
    await page.getByRole('heading', { level: 1 }).waitFor();
    expect(await page.locator('main').innerText()).toMatch(/Add service/);
    expect(await page.getByLabel('Name').count()).toBe(0);
    await inspect(page, 'journey-handoff-expired');
  });
});

describe('an attacker', () => {
  it('cannot show the form or the page in a frame', async () => {
    const link = await registrationLink();
    for (const url of [link, PAGE_URL, `${EMULATOR_URL}/`]) {
      const framing = await (await browser.newContext()).newPage();
      await framing.route('https://attacker.example/', (route) => route.fulfill({ contentType: 'text/html', body: `<iframe src="${url.replaceAll('&', '&amp;')}"></iframe>` }));
      await framing.goto('https://attacker.example/');
      await framing.waitForLoadState('networkidle');
      expect(framing.frames().slice(1).map((frame) => frame.url())).toEqual(['chrome-error://chromewebdata/']);
      await framing.context().close();
    }
  });

  it('cannot change the return URL', async () => {
    const link = new URL(await registrationLink());
    link.searchParams.set('callbackUrl', 'https://attacker.example/');
    await page.goto(link.href);
    await page.locator('main').waitFor();
    expect(await page.content()).not.toContain('attacker.example');
    expect(page.url().startsWith(await backendUrl())).toBe(true);
  });

  it('cannot run script through the name of a service', async () => {
    const script = '<img src=x onerror="document.title=`owned`">';
    await toForm();
    await submit(script, target.url('script'));
    await heading(`${script} is being monitored`).waitFor();
    for (const url of [undefined, PAGE_URL, `${EMULATOR_URL}/`]) {
      if (url !== undefined) await page.goto(url);
      await page.getByText(script).first().waitFor();
      expect(await page.locator('img').count()).toBe(0);
      expect(await page.title()).not.toBe('owned');
    }
  });
});

/** A registration link that the app could have made at another time. */
async function registrationLink(at = new Date()): Promise<string> {
  const made = (await (await fetch(`${EMULATOR_URL}/handoff.json`)).json()) as { handoff: string };
  const claims = JSON.parse(Buffer.from(made.handoff.split('.')[1] ?? '', 'base64url').toString()) as Record<'cloudId' | 'accountId' | 'triggerUrl' | 'callbackUrl', string>;
  const { cloudId, accountId, triggerUrl, callbackUrl } = claims;
  const { x = '', d = '' } = emulatorState('handoff-key.json');
  const app = `ari:cloud:ecosystem::app/${emulatorState('identity.json')['appId'] ?? ''}`;
  const handoff = await signHandoff({ cloudId, accountId, triggerUrl, callbackUrl }, { app, backendUrl: await backendUrl() }, { kty: 'OKP', crv: 'Ed25519', x, d }, at);
  return `${await backendUrl()}/register?${new URLSearchParams({ handoff }).toString()}`;
}

async function backendUrl(): Promise<string> {
  const { headers } = await fetch(`${EMULATOR_URL}/add-service`, { redirect: 'manual' });
  return (headers.get('location') ?? '').split('/register?')[0] ?? '';
}

/** Presses Tab until the element with this text, or this id, has the focus. */
async function tabTo(name: string): Promise<void> {
  for (let presses = 0; presses < 15; presses += 1) {
    const reached = await page.evaluate<boolean>(`(({ activeElement: e }) => e !== null && e !== document.body && (e.id === ${JSON.stringify(name)} || e.textContent === ${JSON.stringify(name)}))(document)`);
    if (reached) return;
    await page.keyboard.press('Tab');
  }
  expect.unreachable(`Tab does not reach ${name}`);
}
