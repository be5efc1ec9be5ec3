/** An installation of the app on a site: enough of the platform to invoke the real web trigger. */
import { randomBytes, randomUUID } from 'node:crypto';

import type { ResponseCode } from '../../src/responses';
import { signHandoff, type HandoffSubject } from '../../src/handoff';
import { CALLBACK_TRIGGER } from '../../src/installation';
import { receive } from '../../src/receiver';
import { install, invocationContext } from '../../../../emulator/src/platform/installation';
import { kvs } from '../../../../emulator/src/platform/kvs';
import { tenantId, thumbprint, type WebTriggerRequest } from 'forge-callback-verifier';

import { signingKey, type SigningKey } from '../../../../packages/verifier/test/signing';
import { BACKEND_URL, type Backend } from './backend';

export class Site {
  readonly cloudId = randomUUID();
  readonly triggerUrl = `https://${randomUUID()}.hello.atlassian-dev.net/x1/${randomBytes(8).toString('hex')}`;
  readonly owner = 'pseudonym-of-alice';
  now = new Date('2026-11-22T10:05:10Z');

  /** @param app two sites may run the same app (one id, one hand-off key) or different ones */
  constructor(readonly app: { readonly id: string; readonly key: SigningKey } = newApp()) {}

  get tenantId(): string {
    return tenantId(this.cloudId, this.triggerUrl);
  }

  /** Makes this the installation that the app's code runs in, with empty storage. */
  enter(backend: Backend): void {
    install({ cloudId: this.cloudId, appId: this.app.id, triggerUrls: { [CALLBACK_TRIGGER]: this.triggerUrl } });
    kvs.clear();
    process.env['BACKEND_URL'] = BACKEND_URL;
    process.env['BACKEND_PUBLIC_KEY'] = backend.publicJwks;
    process.env['HANDOFF_PRIVATE_KEY'] = JSON.stringify(this.app.key.privateKey.export({ format: 'jwk' }));
  }

  /** The web trigger, as the platform calls it. */
  async receive(request: WebTriggerRequest): Promise<ResponseCode> {
    return (await receive(request, invocationContext(this.cloudId), this.now)).outputKey;
  }

  /** A hand-off as the app's own resolver signs it. */
  handoff(bend: Partial<HandoffSubject & { app: string; backendUrl: string; at: Date; key: SigningKey }> = {}): Promise<string> {
    const { app = `ari:cloud:ecosystem::app/${this.app.id}`, backendUrl = BACKEND_URL, at = this.now, key = this.app.key, ...subject } = bend;
    const own = { cloudId: this.cloudId, accountId: this.owner, triggerUrl: this.triggerUrl, callbackUrl: 'https://acme.atlassian.net/jira' };
    const { d } = key.privateKey.export({ format: 'jwk' });
    return signHandoff({ ...own, ...subject }, { app, backendUrl }, { ...key.jwk, d: d ?? '' }, at);
  }

  wait(s: number): void {
    this.now = new Date(this.now.getTime() + s * 1000);
  }
}

export function newApp() {
  return { id: randomUUID(), key: signingKey() };
}

export { kvs, thumbprint };
