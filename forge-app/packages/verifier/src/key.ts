import { createHash } from 'node:crypto';

/** A public Ed25519 key as RFC 8037 writes it. */
export interface Ed25519PublicJwk {
  readonly kty: 'OKP';
  readonly crv: 'Ed25519';
  /** base64url of the 32 bytes of the encoded point, without padding. */
  readonly x: string;
}

const FIELD_PRIME = 2n ** 255n - 19n;

/**
 * The y coordinates of the eight points whose order divides 8 (RFC 7748 section 6.1 and the curve's cofactor): with such a
 * "key" one signature can be valid for any message. The tests recompute this list from the curve equation.
 */
const SMALL_ORDER_Y: ReadonlySet<bigint> = new Set([
  0n,
  1n,
  FIELD_PRIME - 1n,
  0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
  FIELD_PRIME - 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
]);

/**
 * Reads an untrusted JWK. Returns only the three members of the key: `kid`, `use`, `alg` and others are ignored.
 *
 * Returns undefined for another key type, a private key, a point that is not encoded canonically, and points of small order.
 */
export function parsePublicJwk(value: unknown): Ed25519PublicJwk | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { kty, crv, x, d } = value as Record<string, unknown>;
  if (kty !== 'OKP' || crv !== 'Ed25519' || d !== undefined || typeof x !== 'string') return undefined;
  const bytes = Buffer.from(x, 'base64url');
  if (bytes.length !== 32 || bytes.toString('base64url') !== x) return undefined;
  const y = yCoordinate(bytes);
  if (y >= FIELD_PRIME || SMALL_ORDER_Y.has(y)) return undefined;
  return { kty, crv, x };
}

/** The RFC 7638 thumbprint (SHA-256, base64url): the only trusted key id. */
export function thumbprint(jwk: Ed25519PublicJwk): string {
  const canonical = JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x });
  return createHash('sha256').update(canonical).digest('base64url');
}

/** The y coordinate of an encoded point: little-endian, the top bit being the sign of x. */
function yCoordinate(bytes: Buffer): bigint {
  const bigEndian = Buffer.from(bytes).reverse();
  bigEndian.writeUInt8(bigEndian.readUInt8(0) & 0x7f, 0);
  return BigInt(`0x${bigEndian.toString('hex')}`);
}
