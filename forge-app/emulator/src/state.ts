/** The emulator's state folder: after a restart it emulates the same site with the same keys. */
import { createPrivateKey, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Ed25519PublicJwk, parsePublicJwk, thumbprint } from 'forge-callback-verifier';

export interface Identity {
  readonly cloudId: string;
  readonly appId: string;
  /** Last segment of the web trigger's URL. */
  readonly triggerId: string;
  /** The Atlassian account that is logged in. */
  readonly accountId: string;
}

/**
 * A new Ed25519 key as a private JWK.
 *
 * Encoded by the generator and read again: Node 20 can deadlock when a generated KeyObject is exported.
 */
export function newPrivateJwk(): Record<string, unknown> {
  const made = generateKeyPairSync('ed25519', {
    privateKeyEncoding: { format: 'pem', type: 'pkcs8' },
    publicKeyEncoding: { format: 'pem', type: 'spki' },
  });
  return { ...createPrivateKey(made.privateKey).export({ format: 'jwk' }) };
}

export class StateFolder {
  constructor(private readonly folder: string) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  path(file: string): string {
    return join(this.folder, file);
  }

  /** The content of a JSON file; created at the first call. */
  json<T>(file: string, make: () => T): T {
    try {
      return JSON.parse(readFileSync(this.path(file), 'utf8')) as T;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      const value = make();
      this.write(file, value);
      return value;
    }
  }

  write(file: string, value: unknown): void {
    const path = this.path(file);
    writeFileSync(`${path}.new`, `${JSON.stringify(value)}\n`, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  identity(): Identity {
    return this.json('identity.json', () => ({
      cloudId: randomUUID(),
      appId: randomUUID(),
      triggerId: randomBytes(12).toString('hex'),
      accountId: `712020:${randomUUID()}`,
    }));
  }

  /** The app's hand-off key pair as a private JWK. */
  handoffKey(): Record<string, unknown> {
    return this.json('handoff-key.json', newPrivateJwk);
  }

  /** The public half as the JWKS that the backend's parameter ForgeAppPublicKey takes. */
  publicJwks(): { keys: (Ed25519PublicJwk & { kid: string; alg: string; use: string })[] } {
    const { kty, crv, x } = this.handoffKey();
    const jwk = parsePublicJwk({ kty, crv, x });
    if (jwk === undefined) throw new Error('handoff-key.json holds no Ed25519 key');
    return { keys: [{ ...jwk, kid: thumbprint(jwk), alg: 'EdDSA', use: 'sig' }] };
  }
}
