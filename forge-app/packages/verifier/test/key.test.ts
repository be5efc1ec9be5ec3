import { createPublicKey, verify } from 'node:crypto';

import { calculateJwkThumbprint } from 'jose';
import { describe, expect, it } from 'vitest';

import { parsePublicJwk, thumbprint } from '../src/index.js';
import { signingKey } from './signing.js';

const P = 2n ** 255n - 19n;
const D = mod(-121665n * inverse(121666n));

describe('a public key', () => {
  it('is read as its three members and nothing else', () => {
    const { jwk } = signingKey();
    expect(parsePublicJwk({ ...jwk, kid: 'mine', use: 'sig', alg: 'EdDSA', extra: 1 })).toEqual(jwk);
  });

  it('has the thumbprint that jose computes', async () => {
    const { jwk, kid } = signingKey();
    expect(thumbprint(jwk)).toBe(await calculateJwkThumbprint(jwk));
    expect(thumbprint(jwk)).toBe(kid);
  });

  it('has the thumbprint of RFC 8037, appendix A.3', () => {
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' } as const;
    expect(thumbprint(jwk)).toBe('kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k');
  });

  const { jwk } = signingKey();
  it.each([
    ['nothing', undefined],
    ['text', 'key'],
    ['null', null],
    ['another type', { ...jwk, kty: 'EC' }],
    ['another curve', { ...jwk, crv: 'X25519' }],
    ['a private key', { ...jwk, d: jwk.x }],
    ['no point', { kty: 'OKP', crv: 'Ed25519' }],
    ['31 bytes', { ...jwk, x: Buffer.alloc(31, 7).toString('base64url') }],
    ['33 bytes', { ...jwk, x: Buffer.alloc(33, 7).toString('base64url') }],
    ['padding', { ...jwk, x: `${jwk.x}=` }],
    ['another spelling of the same bytes', { ...jwk, x: otherSpelling(jwk.x) }],
    ['a coordinate that is not reduced', { ...jwk, x: encodePoint(P + 3n, false) }],
  ])('is refused when it is %s', (_, value) => {
    expect(parsePublicJwk(value)).toBeUndefined();
  });
});

describe('the points of small order', () => {
  const points = smallOrderPoints();

  it('are eight on the curve, each of which times 8 is the neutral element', () => {
    expect(new Set(points.map(([x, y]) => `${String(x)} ${String(y)}`)).size).toBe(8);
    for (const [x, y] of points) {
      expect(mod(y * y - x * x)).toBe(mod(1n + D * x * x * y * y));
      expect(times8([x, y])).toEqual([0n, 1n]);
    }
  });

  it('are refused in every encoding', () => {
    const encodings = points.flatMap(([, y]) => [y, y + P].filter((value) => value < 2n ** 255n).flatMap((value) => [encodePoint(value, false), encodePoint(value, true)]));
    expect(new Set(encodings).size).toBe(14);
    for (const x of encodings) expect(parsePublicJwk({ kty: 'OKP', crv: 'Ed25519', x })).toBeUndefined();
  });

  it('would make one signature valid for any message under Node 20 and 22', () => {
    const neutral = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: encodePoint(1n, false) }, format: 'jwk' });
    const forged = Buffer.concat([Buffer.from(encodePoint(1n, false), 'base64url'), Buffer.alloc(32)]);
    const [major = 0] = process.versions.node.split('.').map(Number);
    for (const message of ['any message', 'another message']) expect(verify(null, Buffer.from(message), neutral, forged)).toBe(major < 24);
  });
});

type Point = [x: bigint, y: bigint];

/** All solutions of 8 * P = neutral, made by halving: from the equation -x^2 + y^2 = 1 + d x^2 y^2. */
function smallOrderPoints(): Point[] {
  const i = squareRoot(P - 1n) ?? 0n;
  const four: Point[] = [[0n, 1n], [0n, P - 1n], [i, 0n], [mod(-i), 0n]];
  // Twice (x, y) is (i, 0) or (-i, 0) when y^2 = -x^2, so d x^4 - 2 x^2 - 1 = 0 and x^2 = (1 +- sqrt(1 + d)) / d.
  const root = squareRoot(mod(1n + D)) ?? 0n;
  const eight = [mod((1n + root) * inverse(D)), mod((1n - root) * inverse(D))].flatMap((squared) => {
    const x = squareRoot(squared);
    const y = squareRoot(mod(-squared));
    return x === undefined || y === undefined ? [] : ([[x, y], [mod(-x), y], [x, mod(-y)], [mod(-x), mod(-y)]] as Point[]);
  });
  return [...four, ...eight];
}

function times8(point: Point): Point {
  return double(double(double(point)));
}

function double([x, y]: Point): Point {
  const product = mod(D * x * x * y * y);
  return [mod(2n * x * y * inverse(1n + product)), mod((y * y + x * x) * inverse(1n - product))];
}

function encodePoint(y: bigint, sign: boolean): string {
  const bytes = Buffer.from((y + (sign ? 2n ** 255n : 0n)).toString(16).padStart(64, '0'), 'hex');
  return bytes.reverse().toString('base64url');
}

function mod(value: bigint): bigint {
  return ((value % P) + P) % P;
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (let square = mod(base), left = exponent; left > 0n; left >>= 1n, square = mod(square * square)) {
    if (left & 1n) result = mod(result * square);
  }
  return result;
}

function inverse(value: bigint): bigint {
  return power(value, P - 2n);
}

/** A square root modulo P (P = 5 mod 8), or undefined. */
function squareRoot(value: bigint): bigint | undefined {
  const candidate = power(value, (P + 3n) / 8n);
  return [candidate, mod(candidate * power(2n, (P - 1n) / 4n))].find((root) => mod(root * root) === mod(value));
}

/** The last base64url character of 32 bytes carries two unused bits. */
function otherSpelling(x: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  return x.slice(0, -1) + alphabet.charAt(alphabet.indexOf(x.slice(-1)) + 1);
}
