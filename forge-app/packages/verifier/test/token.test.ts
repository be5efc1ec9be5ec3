import { describe, expect, it } from 'vitest';

import { type Expectations, type RefusalReason, verifyCallback, verifyToken, type WebTriggerRequest } from '../src/index.js';
import { compactJws, encode, request, sha256, signingKey } from './signing.js';

const NOW = new Date('2026-11-22T10:05:10Z');
const NOW_S = NOW.getTime() / 1000;
const CLOUD = '7d7e5e5c-2b3a-4f3e-9c7a-0a1b2c3d4e5f';
const TENANT = 'aaaabbbbccccddddeeeeffffgggg2345';
const deployment = signingKey();
const tenant = signingKey();
const stranger = signingKey();

const expected: Expectations = {
  backendUrl: 'https://Backend.example/',
  cloudId: CLOUD,
  tenantId: TENANT,
  keys: { 'health:register': [deployment.jwk], 'health:update': [tenant.jwk] },
  now: NOW,
};

interface Changes {
  header?: object;
  claims?: object;
  body?: string;
  sentBody?: string;
  key?: typeof tenant;
}

const BODY = JSON.stringify({ version: 1, action: 'UPDATE', cloudId: CLOUD, tenantId: TENANT });

function update({ header, claims, body = BODY, sentBody = body, key = tenant }: Changes = {}): WebTriggerRequest {
  const allClaims = {
    iss: 'https://backend.example', aud: CLOUD, sub: TENANT, iat: NOW_S, exp: NOW_S + 300,
    jti: `${TENANT}.2026-11-22T10:05:00Z`, scope: 'health:update', body_sha256: sha256(body), ...claims,
  };
  return request(compactJws({ alg: 'EdDSA', typ: 'forge-callback+jwt', kid: key.kid, ...header }, allClaims, key), sentBody);
}

describe('a genuine callback', () => {
  it('is accepted with its claims, key and body', async () => {
    const verdict = await verifyCallback(update(), expected);
    expect(verdict).toMatchObject({ ok: true, kid: tenant.kid, claims: { sub: TENANT }, body: { action: 'UPDATE' } });
  });

  it.each(['authorization', 'Authorization', 'AUTHORIZATION'])('is found under the header name %s', async (name) => {
    const { headers, body } = update();
    const value = headers?.['authorization'] ?? [];
    expect(await verifyCallback({ headers: { [name]: value }, body }, expected)).toMatchObject({ ok: true });
  });

  it.each([
    ['59 s old beyond its end', { iat: NOW_S - 359, exp: NOW_S - 59 }],
    ['59 s from the future', { iat: NOW_S + 59, exp: NOW_S + 359 }],
  ])('is accepted when it is %s', async (_, claims) => {
    expect(await verifyCallback(update({ claims }), expected)).toMatchObject({ ok: true });
  });

  it('may have text outside ASCII in its body', async () => {
    const body = JSON.stringify({ ...(JSON.parse(BODY) as object), note: 'Zürich – 東京 😀' });
    expect(await verifyCallback(update({ body }), expected)).toMatchObject({ ok: true });
  });
});

describe('refused without reading a key', () => {
  const cases: [string, RefusalReason, WebTriggerRequest][] = [
    ['no headers', 'authorization', { body: BODY }],
    ['no authorization', 'authorization', { headers: {}, body: BODY }],
    ['another scheme', 'authorization', { headers: { authorization: ['Basic YTpi'] }, body: BODY }],
    ['two authorizations', 'authorization', { headers: { authorization: [...(update().headers?.['authorization'] ?? []), 'Bearer a.b.c'] }, body: BODY }],
    ['two spellings of the header', 'authorization', { headers: { authorization: ['Bearer a.b.c'], Authorization: ['Bearer a.b.c'] }, body: BODY }],
    ['a token of 5,000 characters', 'authorization', update({ claims: { more: 'x'.repeat(5000) } })],
    ['a header that is not JSON', 'shape', request(`${encode('nonsense')}.${encode('{}')}.AAAA`, BODY)],
    ['claims that are not an object', 'shape', request(compactJws({ alg: 'EdDSA', typ: 'forge-callback+jwt', kid: tenant.kid }, '[]', tenant), BODY)],
    ['alg none', 'algorithm', update({ header: { alg: 'none' } })],
    ['alg HS256', 'algorithm', update({ header: { alg: 'HS256' } })],
    ['alg Ed25519, the newer name', 'algorithm', update({ header: { alg: 'Ed25519' } })],
    ['alg in another case', 'algorithm', update({ header: { alg: 'eddsa' } })],
    ['no typ', 'type', update({ header: { typ: undefined } })],
    ['the typ of a hand-off', 'type', update({ header: { typ: 'forge-handoff+jwt' } })],
    ['the typ with its media type prefix', 'type', update({ header: { typ: 'application/forge-callback+jwt' } })],
    ['a crit header', 'header', update({ header: { crit: ['b64'], b64: false } })],
    ['a jwk header', 'header', update({ header: { jwk: stranger.jwk }, key: stranger })],
    ['a jku header', 'header', update({ header: { jku: 'https://attacker.example/jwks.json' } })],
    ['an x5c header', 'header', update({ header: { x5c: ['MIIB'] } })],
    ['a kid that is no thumbprint', 'header', update({ header: { kid: '../../key' } })],
    ['another issuer', 'issuer', update({ claims: { iss: 'https://other.example' } })],
    ['the issuer with a trailing slash', 'issuer', update({ claims: { iss: 'https://backend.example/' } })],
    ['another site', 'audience', update({ claims: { aud: '00000000-0000-4000-8000-000000000000' } })],
    ['a list of sites', 'shape', update({ claims: { aud: [CLOUD] } })],
    ['no jti', 'shape', update({ claims: { jti: undefined } })],
    ['an empty jti', 'shape', update({ claims: { jti: '' } })],
    ['no sub', 'shape', update({ claims: { sub: undefined } })],
    ['no iat', 'shape', update({ claims: { iat: undefined } })],
    ['no exp', 'shape', update({ claims: { exp: undefined } })],
    ['a time that is text', 'shape', update({ claims: { exp: String(NOW_S + 300) } })],
    ['a life of 301 s', 'time', update({ claims: { exp: NOW_S + 301 } })],
    ['an end before its start', 'time', update({ claims: { exp: NOW_S - 1 } })],
    ['61 s past its end', 'time', update({ claims: { iat: NOW_S - 361, exp: NOW_S - 61 } })],
    ['61 s from the future', 'time', update({ claims: { iat: NOW_S + 61, exp: NOW_S + 361 } })],
    ['an unknown scope', 'scope', update({ claims: { scope: 'health:delete' } })],
    ['a scope that is a property of every object', 'scope', update({ claims: { scope: 'constructor' } })],
    ['no hash', 'shape', update({ claims: { body_sha256: undefined } })],
    ['another body than the token was made for', 'body-hash', update({ sentBody: BODY.replace('UPDATE', 'REGISTER') })],
    ['the same body with a space more', 'body-hash', update({ sentBody: `${BODY} ` })],
    ['no body', 'body-hash', update({ sentBody: '' })],
  ];

  it.each(cases)('%s: %s', async (_, reason, refused) => {
    let asked = 0;
    const asking = () => {
      asked += 1;
      return Promise.resolve([tenant.jwk, stranger.jwk]);
    };
    const verdict = await verifyCallback(refused, { ...expected, keys: { 'health:update': asking, 'health:register': asking } });
    expect(verdict).toEqual({ ok: false, reason, signed: false });
    expect(asked).toBe(0);
  });
});

describe('refused by the keys', () => {
  it.each<[string, RefusalReason, WebTriggerRequest]>([
    ['signed by a stranger', 'unknown-key', update({ key: stranger })],
    ['signed by a stranger under the name of the trusted key', 'signature', update({ key: stranger, header: { kid: tenant.kid } })],
    ['an update signed by the deployment key', 'unknown-key', update({ key: deployment })],
    ['a registration signed by the tenant key', 'unknown-key', update({ claims: { scope: 'health:register' } })],
  ])('%s: %s', async (_, reason, refused) => {
    expect(await verifyCallback(refused, expected)).toEqual({ ok: false, reason, signed: false });
  });

  it('names the case that no key is trusted yet', async () => {
    const verdict = await verifyCallback(update(), { ...expected, keys: { 'health:update': [] } });
    expect(verdict).toEqual({ ok: false, reason: 'no-key-for-scope', signed: false });
  });

  it('ignores the kid of a trusted key', async () => {
    const mislabelled = { ...stranger.jwk, kid: tenant.kid };
    const verdict = await verifyCallback(update({ key: stranger, header: { kid: tenant.kid } }), { ...expected, keys: { 'health:update': [mislabelled] } });
    expect(verdict).toMatchObject({ ok: false, reason: 'unknown-key' });
  });
});

describe('refused although a trusted key signed', () => {
  const signedBody = (change: object) => update({ body: JSON.stringify({ ...(JSON.parse(BODY) as object), ...change }) });

  it.each<[string, RefusalReason, WebTriggerRequest]>([
    ['for another tenant', 'subject', update({ claims: { sub: 'zzzzbbbbccccddddeeeeffffgggg2345' } })],
    ['a body of another tenant', 'subject', signedBody({ tenantId: 'zzzzbbbbccccddddeeeeffffgggg2345' })],
    ['a body of another site', 'audience', signedBody({ cloudId: '00000000-0000-4000-8000-000000000000' })],
    ['a body whose action is not the scope', 'scope', signedBody({ action: 'REGISTER' })],
    ['a body of another version', 'body', signedBody({ version: 2 })],
    ['a body that is not JSON', 'body', update({ body: 'version=1' })],
    ['a body that is a list', 'body', update({ body: '[]' })],
    ['a body over 1 MiB', 'body-too-large', signedBody({ padding: 'x'.repeat(1024 * 1024) })],
  ])('%s: %s', async (_, reason, refused) => {
    expect(await verifyCallback(refused, expected)).toEqual({ ok: false, reason, signed: true });
  });

  it('computes its own tenant id only after the signature', async () => {
    let asked = 0;
    const tenantId = () => {
      asked += 1;
      return Promise.resolve(TENANT);
    };
    await verifyCallback(update({ key: stranger, header: { kid: tenant.kid } }), { ...expected, tenantId });
    expect(asked).toBe(0);
    await verifyCallback(update(), { ...expected, tenantId });
    expect(asked).toBe(1);
  });
});

describe('a request without a body', () => {
  const pull = (claims: object = {}) =>
    request(
      compactJws(
        { alg: 'EdDSA', typ: 'forge-callback+jwt', kid: tenant.kid },
        { iss: 'https://backend.example', aud: CLOUD, sub: TENANT, iat: NOW_S, exp: NOW_S + 60, jti: 'a', scope: 'report:read', body_sha256: sha256(''), ...claims },
        tenant,
      ),
      '',
    );
  const reading = { ...expected, keys: { 'report:read': [tenant.jwk] } };

  it('is verified by its token alone', async () => {
    expect(await verifyToken(pull(), reading)).toMatchObject({ ok: true, claims: { scope: 'report:read' } });
  });

  it('is refused with a scope for something else', async () => {
    expect(await verifyToken(pull({ scope: 'health:update' }), reading)).toMatchObject({ ok: false, reason: 'scope' });
  });
});

it('refuses everything when the backend URL cannot be one', async () => {
  for (const backendUrl of ['', 'backend.example', 'http://backend.example', 'https://user@backend.example', 'https://backend.example?x=1']) {
    expect(await verifyCallback(update(), { ...expected, backendUrl })).toMatchObject({ ok: false, reason: 'configuration' });
  }
});
