/** Makes keys, compact JWS and requests for tests with node:crypto alone, without the code under test. */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

import type { Ed25519PublicJwk, WebTriggerRequest } from '../src/index.js';

export interface SigningKey {
  readonly privateKey: KeyObject;
  readonly jwk: Ed25519PublicJwk;
  readonly kid: string;
}

export function signingKey(): SigningKey {
  // Encoded by the generator and read again: Node 20 can deadlock when a generated KeyObject is exported.
  const made = generateKeyPairSync('ed25519', {
    privateKeyEncoding: { format: 'pem', type: 'pkcs8' },
    publicKeyEncoding: { format: 'pem', type: 'spki' },
  });
  const privateKey = createPrivateKey(made.privateKey);
  const { x } = createPublicKey(made.publicKey).export({ format: 'jwk' });
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: x ?? '' } as const;
  const kid = createHash('sha256').update(`{"crv":"Ed25519","kty":"OKP","x":"${jwk.x}"}`).digest('base64url');
  return { privateKey, jwk, kid };
}

export function compactJws(header: object, claims: unknown, key: SigningKey): string {
  const input = `${encode(header)}.${encode(claims)}`;
  return `${input}.${sign(null, Buffer.from(input), key.privateKey).toString('base64url')}`;
}

export function encode(value: unknown): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}

export function request(token: string, body: string): WebTriggerRequest {
  return { headers: { 'Content-Type': ['application/json'], authorization: [`Bearer ${token}`] }, body };
}
