import { createHash } from 'node:crypto';

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';

/**
 * The id of one installation of the app: the first 20 bytes of SHA-256 of the cloud id and the web trigger's URL, in
 * lower-case base32.
 *
 * @param cloudId the site's UUID; lower-cased here, as on the wire
 * @param triggerUrl what `webTrigger.getUrl` returned, byte for byte
 */
export function tenantId(cloudId: string, triggerUrl: string): string {
  const digest = createHash('sha256')
    .update(`forge-health/tenant/v1\n${cloudId.toLowerCase()}\n${triggerUrl}`)
    .digest();
  return base32(digest.subarray(0, 20));
}

/** RFC 4648 base32, lower case, no padding; the input's length must be a multiple of 5 bytes. */
function base32(bytes: Buffer): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 5) {
    let group = bytes.readUIntBE(at, 5);
    let chunk = '';
    for (let digit = 0; digit < 8; digit += 1) {
      chunk = BASE32.charAt(group % 32) + chunk;
      group = Math.floor(group / 32);
    }
    text += chunk;
  }
  return text;
}

/**
 * Normalises a backend's URL, for comparison with issuers and audiences: lower-case host, no trailing slash. Undefined for a
 * URL that is not https (http is accepted on loopback, for local development), or has credentials, a query or a fragment.
 */
export function normalizeBackendUrl(value: string | undefined): string | undefined {
  if (value === undefined || !URL.canParse(value)) return undefined;
  const url = new URL(value);
  const loopback = url.hostname === '127.0.0.1' || url.hostname === 'localhost';
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && loopback)) return undefined;
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') return undefined;
  return `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, '')}`;
}
