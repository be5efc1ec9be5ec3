/** The REST interface of the key-value store, as `@forge/kvs` calls it, on an emulated store. */
import { ForgeKvsAPIError, type LocalKvs } from './kvs';

interface KvsRequest {
  readonly key: string;
  readonly value?: unknown;
  readonly options?: Parameters<LocalKvs['set']>[2];
}

/** @param absent the body for a key that has no value; without it 404, as documented */
export async function handleKvsRequest(store: LocalKvs, path: string, request: unknown, absent?: string): Promise<Response> {
  try {
    return await handle(store, path, request as KvsRequest, absent);
  } catch (error) {
    if (!(error instanceof ForgeKvsAPIError)) throw error;
    return Response.json(error.forgeError, { status: error.responseDetails.status });
  }
}

async function handle(store: LocalKvs, path: string, { key, value, options }: KvsRequest, absent: string | undefined): Promise<Response> {
  const found = (stored: unknown) => {
    if (stored !== undefined) return Response.json({ key, value: stored });
    return absent === undefined ? Response.json({ code: 'KEY_NOT_FOUND', message: 'no such key' }, { status: 404 }) : new Response(absent);
  };
  switch (path) {
    case '/api/v1/get':
      return found(await store.get(key));
    case '/api/v1/set': {
      const result = await store.set(key, value, options);
      if (options?.returnValue === undefined) return new Response('');
      return result?.key === undefined ? new Response(store.nothing) : Response.json(result);
    }
    case '/api/v1/delete':
      await store.delete(key);
      return new Response('');
    case '/api/v1/secret/get':
      return found(await store.getSecret(key));
    case '/api/v1/secret/set':
      await store.setSecret(key, value, options);
      return new Response('');
    default:
      throw new Error(`the platform has no ${path}`);
  }
}
