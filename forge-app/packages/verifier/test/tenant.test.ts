import { createHash } from 'node:crypto';

import { describe, expect, it } from 'vitest';

import { normalizeBackendUrl, tenantId } from '../src/index.js';

const CLOUD = '7d7e5e5c-2b3a-4f3e-9c7a-0a1b2c3d4e5f';
const TRIGGER = 'https://4c9f4e9a-5b0b-4d6f-8d63-6c9f2f3e1a77.hello.atlassian-dev.net/x1/abcDEF123';

describe('tenantId', () => {
  it('is 20 bytes of SHA-256 in base32, as an independent computation has it', () => {
    const digest = createHash('sha256').update(`forge-health/tenant/v1\n${CLOUD}\n${TRIGGER}`).digest();
    const bits = [...digest.subarray(0, 20)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
    const expected = bits.replace(/.{5}/g, (five) => 'abcdefghijklmnopqrstuvwxyz234567'.charAt(Number.parseInt(five, 2)));
    expect(tenantId(CLOUD, TRIGGER)).toBe(expected);
    expect(expected).toMatch(/^[a-z2-7]{32}$/);
  });

  it('does not depend on the case of the cloud id, and does on that of the trigger', () => {
    expect(tenantId(CLOUD.toUpperCase(), TRIGGER)).toBe(tenantId(CLOUD, TRIGGER));
    expect(tenantId(CLOUD, TRIGGER.toLowerCase())).not.toBe(tenantId(CLOUD, TRIGGER));
  });
});

describe('normalizeBackendUrl', () => {
  it.each([
    ['https://Backend.Example', 'https://backend.example'],
    ['https://backend.example/', 'https://backend.example'],
    ['https://backend.example:443/Stage/', 'https://backend.example/Stage'],
    ['http://127.0.0.1:4566/_aws/execute-api/abc/$default', 'http://127.0.0.1:4566/_aws/execute-api/abc/$default'],
  ])('%s is %s', (given, normal) => {
    expect(normalizeBackendUrl(given)).toBe(normal);
  });

  it.each([undefined, '', 'backend.example', 'http://backend.example', 'ftp://backend.example', 'https://a:b@backend.example', 'https://backend.example/#x'])(
    '%s is none',
    (given) => {
      expect(normalizeBackendUrl(given)).toBeUndefined();
    },
  );
});
