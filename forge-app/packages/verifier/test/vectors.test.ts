/** The vectors of testdata/callback/vectors.json, which the Rust tests read as well. */
import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { type Ed25519PublicJwk, isSignedBy, parsePublicJwk, tenantId, thumbprint, verifyCallback } from '../src/index.js';
import { request } from './signing.js';

interface Vectors {
  ids: { cloudId: string; triggerUrl: string; tenantId: string }[];
  keys: {
    good: { name: string; seed: string; message: string; signature: string; jwk: Ed25519PublicJwk; kid: string }[];
    bad: { name: string; jwk: unknown }[];
  };
  callbacks: {
    now: number;
    backendUrl: string;
    cloudId: string;
    tenantId: string;
    keys: Record<string, Ed25519PublicJwk[]>;
    cases: { name: string; scope: string; jws: string; receiver: string; token: string; body: string }[];
  };
}

const { ids, keys, callbacks } = JSON.parse(readFileSync(new URL('../../../../testdata/callback/vectors.json', import.meta.url), 'utf8')) as Vectors;

it('derives the tenant ids', () => {
  expect(ids.length).toBeGreaterThanOrEqual(4);
  for (const { cloudId, triggerUrl, tenantId: id } of ids) expect(tenantId(cloudId, triggerUrl)).toBe(id);
});

describe('a key', () => {
  it.each(keys.good)('of $name is read, named and signs as printed', ({ seed, message, signature, jwk, kid }) => {
    expect(parsePublicJwk(jwk)).toEqual(jwk);
    expect(thumbprint(jwk)).toBe(kid);
    // PKCS#8 (RFC 8410) of an Ed25519 seed: a fixed prefix and the seed.
    const der = Buffer.from(`302e020100300506032b657004220420${seed}`, 'hex');
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    expect(createPublicKey(key).export({ format: 'jwk' })).toEqual(jwk);
    expect(sign(null, Buffer.from(message, 'hex'), key).toString('hex')).toBe(signature);
  });

  it.each(keys.bad)('is refused: $name', ({ jwk }) => {
    expect(parsePublicJwk(jwk)).toBeUndefined();
  });
});

describe('a callback', () => {
  const expected = { ...callbacks, now: new Date(callbacks.now * 1000) };

  it.each(callbacks.cases)('$name: $receiver', async ({ receiver, token, body }) => {
    const verdict = await verifyCallback(request(token, body), expected);
    expect(verdict.ok ? 'accepted' : verdict.reason).toBe(receiver);
  });

  it.each(callbacks.cases.filter(({ jws }) => jws === 'Signature'))('$name: no signature of the key', async ({ token, scope }) => {
    for (const key of callbacks.keys[scope] ?? []) expect(await isSignedBy(token, key)).toBe(false);
  });
});
