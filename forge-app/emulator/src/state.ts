/** The emulator's state folder: after a restart it emulates the same site with the same keys. */
import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { type Ed25519PublicJwk, parsePublicJwk, thumbprint } from 'forge-callback-verifier';

export interface Identity {
  readonly cloudId: string;
  readonly appId: string;
  /** Last segment of the web trigger's URL. */
  readonly triggerId: string;
  /** The Atlassian account that is logged in. */
  readonly accountId: string;
}

/** A new hand-off key as a private JWK: what `npm run keygen` prints for a developer to set as a Forge variable. */
export function newPrivateJwk(): Record<string, unknown> {
  const script = fileURLToPath(new URL('../../apps/badge/scripts/keygen.mjs', import.meta.url));
  const printed = execFileSync(process.execPath, [script], { encoding: 'utf8' });
  const jwk = /HANDOFF_PRIVATE_KEY '(?<jwk>[^']+)'/.exec(printed)?.groups?.['jwk'];
  if (jwk === undefined) throw new Error('keygen.mjs printed no private key');
  return JSON.parse(jwk) as Record<string, unknown>;
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
