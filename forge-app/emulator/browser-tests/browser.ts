/** Debian's Chromium, driven by playwright-core, and the assertions of every browser test. */
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

import type { AxeResults } from 'axe-core';
import { type Browser, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';

const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
/** One picture of every state; ignored by git. */
const SCREENSHOTS = fileURLToPath(new URL('../../../.local/screenshots/', import.meta.url));
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export const WIDTHS = [1280, 375] as const;

export function launch(): Promise<Browser> {
  mkdirSync(SCREENSHOTS, { recursive: true });
  // Containers often run tests as root; and the browser must not contact its maker's hosts.
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  return chromium.launch({ executablePath: CHROMIUM, args });
}

/** A page that fails its test when one of its scripts fails, or violates its content policy. */
export async function openPage(browser: Browser, width: number = WIDTHS[0]): Promise<Page> {
  const context = await browser.newContext({ viewport: { width, height: 800 }, locale: 'en-GB', timezoneId: 'UTC', bypassCSP: false });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  page.on('pageerror', (error) => expect.unreachable(`a script failed: ${error.message}`));
  page.on('console', (message) => {
    if (message.text().includes('Content Security Policy')) expect.unreachable(message.text());
  });
  return page;
}

/** Takes a picture, and asserts that the page fits its width and that axe finds nothing serious. */
export async function inspect(page: Page, name: string): Promise<void> {
  const width = page.viewportSize()?.width ?? 0;
  await page.screenshot({ path: `${SCREENSHOTS}${name}-${String(width)}.png`, fullPage: true });
  expect(await page.evaluate('document.documentElement.scrollWidth'), `${name} is wider than ${String(width)} px`).toBeLessThanOrEqual(width);
  expect(await seriousFindings(page), name).toEqual([]);
}

async function seriousFindings(page: Page): Promise<string[]> {
  // The debugger evaluates it: the page's content policy does not apply.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate<AxeResults>('axe.run(document)');
  return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical').map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}
