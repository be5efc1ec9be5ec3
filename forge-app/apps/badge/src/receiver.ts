import { webTrigger } from '@forge/api';
import { type Refusal, SCOPE_OF_ACTION, tenantId, type VerifiedCallback, verifyCallback, type WebTriggerRequest } from 'forge-callback-verifier';

import { readConfig } from './config';
import { CALLBACK_TRIGGER, type CallbackContext, cloudIdOf, type InvocationContext } from './installation';
import { endorsementIn } from './key-endorsement';
import { applyRegister } from './register';
import type { Decision, StaticOutput } from './responses';
import { MalformedFieldError } from './service';
import { readTrust, recoverTrust, type TrustSnapshot } from './store';
import { trustedKeys } from './tenant-keys';
import { applyUpdate } from './update';

/**
 * The web trigger's handler: verifies one callback and applies it.
 *
 * An unexpected failure becomes RETRY: the same callback may succeed later. The reason for a refusal goes to the app's own
 * log and nowhere else.
 */
export async function receive(request: WebTriggerRequest, context: InvocationContext, now: Date): Promise<StaticOutput> {
  const { code, reason } = await decide(request, context, now);
  if (reason !== undefined) console.warn(`callback response ${code}: ${reason}`);
  return { outputKey: code };
}

async function decide(request: WebTriggerRequest, context: InvocationContext, now: Date): Promise<Decision> {
  const read = readConfig(process.env);
  if (!read.ok) return { code: 'NOT_CONFIGURED', reason: `unusable variables: ${read.unusable.join(', ')}` };
  const cloudId = cloudIdOf(context);
  if (cloudId === undefined) return { code: 'RETRY', reason: 'the invocation context names no site' };
  try {
    return await verifyAndApply(request, { config: read.config, cloudId, now });
  } catch (error) {
    if (error instanceof MalformedFieldError) return { code: 'BAD_REQUEST', reason: error.message };
    return { code: 'RETRY', reason: error instanceof Error ? error.name : 'unknown failure' };
  }
}

async function verifyAndApply(request: WebTriggerRequest, context: CallbackContext): Promise<Decision> {
  const triggerUrl = once(() => webTrigger.getUrl(CALLBACK_TRIGGER));
  let snapshot = once(readTrust);
  let callback = await verify(request, context, triggerUrl, snapshot);
  if (!callback.ok && (callback.reason === 'unknown-key' || callback.reason === 'no-key-for-scope')) {
    const recovered = await recoverTrust(await snapshot());
    if (recovered !== undefined) {
      snapshot = () => Promise.resolve(recovered);
      callback = await verify(request, context, triggerUrl, snapshot);
    }
  }
  if (!callback.ok) return refusal(callback);
  if (callback.body.action === 'REGISTER') return applyRegister(callback, await triggerUrl(), await snapshot(), context);
  return applyUpdate(callback, await snapshot(), context);
}

async function verify(
  request: WebTriggerRequest, context: CallbackContext, triggerUrl: () => Promise<string>, snapshot: () => Promise<TrustSnapshot>,
): Promise<VerifiedCallback | Refusal> {
  const { config, cloudId, now } = context;
  return verifyCallback(request, {
    backendUrl: config.backendUrl,
    cloudId,
    now,
    keys: {
      [SCOPE_OF_ACTION.REGISTER]: config.backendKeys,
      [SCOPE_OF_ACTION.UPDATE]: async () => {
        const keys = await trustedKeys((await snapshot()).trust, endorsementIn(request.body), context);
        return keys.map(({ jwk }) => jwk);
      },
    },
    // A registration's tenant id is computed here, and stored for the updates that follow.
    tenantId: async ({ scope }) =>
      scope === SCOPE_OF_ACTION.REGISTER ? tenantId(cloudId, await triggerUrl()) : ((await snapshot()).trust?.tenantId ?? ''),
  });
}

function refusal({ reason, signed }: Refusal): Decision {
  if (reason === 'no-key-for-scope') return { code: 'UNREGISTERED', reason };
  if (reason === 'body-too-large') return { code: 'TOO_LARGE', reason };
  if (reason === 'body' && signed) return { code: 'BAD_REQUEST', reason };
  return { code: 'UNAUTHORIZED', reason };
}

/** Runs a read at most once per invocation. */
function once<T>(read: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => (result ??= read());
}
