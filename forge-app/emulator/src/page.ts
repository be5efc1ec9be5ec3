/** The emulator's own page. Everything in it comes from outside, so everything is escaped. */
import type { Overview } from '../../apps/badge/src/overview';
import type { LoggedCallback } from './log';

export interface PageState {
  readonly overview: Overview;
  readonly callbacks: readonly LoggedCallback[];
  readonly backendUrl: string;
  /** False until the backend's public key is fetched. */
  readonly ready: boolean;
}

/** For this page, and for what the emulator adds to the app's page: the bar and the dialog. */
export const STYLE = `
body.emulator { font: 16px/1.5 system-ui, sans-serif; color: #172b4d; background: #fff; margin: 0; }
.emulator main { margin: 0 auto; max-width: 80rem; padding: 1rem; }
.emulator-bar { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; background: #f1f2f4; border-bottom: 1px solid #dcdfe4; padding: .5rem 1rem; font: 14px/1.5 system-ui, sans-serif; }
.emulator-bar span { color: #44546f; } .emulator-bar a { color: #0c56c9; }
dialog { max-width: 26rem; border: 1px solid #dcdfe4; border-radius: 6px; padding: 1.25rem; }
.emulator table { border-collapse: collapse; width: 100%; } .emulator .wide { overflow-x: auto; }
.emulator th, .emulator td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #dcdfe4; white-space: nowrap; }
.emulator td.url { white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }
.emulator a.button { display: inline-block; background: #0052cc; color: #fff; padding: .5rem 1rem; border-radius: 4px; text-decoration: none; }
.emulator .ALIVE, .emulator .accepted { color: #006644; font-weight: 600; } .emulator .DOWN, .emulator .refused { color: #ae2a19; font-weight: 600; }
.emulator .PAUSED, .emulator .UNKNOWN { color: #5e4db2; font-weight: 600; } .emulator .note { color: #44546f; }
`;

export function renderPage({ overview, callbacks, backendUrl, ready }: PageState): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<title>Forge emulator</title>
<link rel="stylesheet" href="/style.css">
<script src="/refresh.js" defer></script>
</head>
<body class="emulator">
<nav class="emulator-bar" aria-label="Forge emulator"><span>Forge emulator</span><a href="/health-monitor/">Health Monitor</a><a href="/" aria-current="page">Callbacks</a></nav>
<main>
<h1>Callbacks</h1>
<p class="note">A development tool. It runs the companion app; the backend is <code>${escape(backendUrl)}</code>.</p>
${ready ? '' : '<p class="refused" role="status">Waiting for the public key of the backend.</p>'}
<p><a class="button" href="/add-service">Add service</a></p>
<h2>Services</h2>
${overview.services.length === 0 ? '<p>No services yet.</p>' : servicesTable(overview)}
<h2>Responses of the web trigger</h2>
${callbacks.length === 0 ? '<p>No callbacks yet.</p>' : callbacksTable(callbacks)}
</main>
</body>
</html>
`;
}

function servicesTable({ services, tick }: Overview): string {
  const rows = services.map(
    ({ name, url, status, since, check, suppressed }) =>
      `<tr><td>${escape(name)}</td><td class="url">${escape(url)}</td><td class="${status}">${status}${suppressed ? ' (suppressed)' : ''}</td>` +
      `<td>${instant(since)}</td><td>${instant(check?.checkedAt)}</td><td>${milliseconds(check?.responseTimeMs)}</td><td>${escape(check?.failure ?? '')}</td></tr>`,
  );
  const caption = tick === undefined ? 'No report yet' : `Last report: tick ${instant(tick)}`;
  return table(caption, ['Name', 'URL', 'Status', 'Since', 'Checked', 'Response time', 'Failure'], rows);
}

function callbacksTable(callbacks: readonly LoggedCallback[]): string {
  const rows = callbacks.map(({ at, action, tick, code, status, transitions, fault }) => {
    const accepted = status >= 200 && status < 300;
    return (
      `<tr><td>${escape(at)}</td><td>${escape(action)}</td><td>${escape(tick ?? '')}</td>` +
      `<td class="${accepted ? 'accepted' : 'refused'}">${escape(code)}${fault ? ' (fault)' : ''}</td><td>${String(status)}</td><td>${String(transitions.length)}</td></tr>`
    );
  });
  return table('Newest first, at most 100', ['Time', 'Action', 'Tick', 'Response', 'HTTP', 'Transitions'], rows);
}

function table(caption: string, heads: readonly string[], rows: readonly string[]): string {
  const head = heads.map((text) => `<th scope="col">${text}</th>`).join('');
  return `<div class="wide" tabindex="0" role="region" aria-label="${caption}"><table><caption class="note">${caption}</caption><thead><tr>${head}</tr></thead><tbody>${rows.join('\n')}</tbody></table></div>`;
}

function instant(seconds: number | undefined): string {
  return seconds === undefined ? '' : `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
}

function milliseconds(value: number | undefined): string {
  return value === undefined ? '' : `${String(value)} ms`;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${String(character.charCodeAt(0))};`);
}
