/** Serves the app's built page as the platform does: its files as they are, with the bridge's script added. */
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { fileURLToPath } from 'node:url';

/** Where the page is; `view.getContext()` names the same path. */
export const PAGE_PATH = '/health-monitor/';

const BUILD = new URL('../../apps/badge/static/page/build/', import.meta.url);
const OWN = new URL('./', import.meta.url);
const FILES: Readonly<Record<string, { readonly from: URL; readonly type: string }>> = {
  [PAGE_PATH]: { from: new URL('index.html', BUILD), type: 'text/html; charset=utf-8' },
  [`${PAGE_PATH}page.js`]: { from: new URL('page.js', BUILD), type: 'text/javascript; charset=utf-8' },
  [`${PAGE_PATH}page.css`]: { from: new URL('page.css', BUILD), type: 'text/css; charset=utf-8' },
  '/bridge.js': { from: new URL('bridge.js', OWN), type: 'text/javascript; charset=utf-8' },
  '/refresh.js': { from: new URL('refresh.js', OWN), type: 'text/javascript; charset=utf-8' },
};
/** As Atlassian's policy for Custom UI: the app's own files only. */
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/** @returns false when the path is none of the page's files */
export async function servePage(path: string, response: ServerResponse): Promise<boolean> {
  const file = Object.hasOwn(FILES, path) ? FILES[path] : undefined;
  if (file === undefined) return false;
  let content = await readFile(fileURLToPath(file.from), 'utf8');
  if (path === PAGE_PATH) content = content.replace('<head>', '<head><link rel="stylesheet" href="/style.css"><script src="/bridge.js"></script>');
  response
    .writeHead(200, { 'content-type': file.type, 'cache-control': 'no-store', 'content-security-policy': POLICY, 'x-content-type-options': 'nosniff' })
    .end(content);
  return true;
}
