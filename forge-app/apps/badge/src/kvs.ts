import { ForgeKvsAPIError, kvs } from '@forge/kvs';

/**
 * The part of Forge's key-value store that this app uses. The store has no conditional overwrite of a plain key. Two of its
 * operations are atomic: {@link createValue}, and {@link replaceValue}, which returns what it replaced.
 */

/** Reads a value; undefined when there is none. */
export async function readValue<T>(key: string): Promise<T | undefined> {
  return presentValue(await kvs.get<T | null>(key));
}

/** Writes a value unless the key has one. @returns whether it was written */
export async function createValue(key: string, value: unknown, lifetimeS: number): Promise<boolean> {
  return created(() => kvs.set(key, value, { keyPolicy: 'FAIL_IF_EXISTS', ttl: seconds(lifetimeS) }));
}

/**
 * Writes a value over any other.
 *
 * @param lifetimeS without it the value stays
 * @returns the previous value
 */
export async function replaceValue<T>(key: string, value: T, lifetimeS?: number): Promise<T | undefined> {
  const ttl = lifetimeS === undefined ? {} : { ttl: seconds(lifetimeS) };
  const replaced = (await kvs.set(key, value, { keyPolicy: 'OVERRIDE', returnValue: 'PREVIOUS', ...ttl })) as { value?: T | null } | null | undefined;
  return presentValue(replaced?.value);
}

export async function deleteValue(key: string): Promise<void> {
  await kvs.delete(key);
}

/** Forge encrypts secrets, and no query finds them. */
export async function readSecret(key: string): Promise<string | undefined> {
  return presentValue(await kvs.getSecret<string | null>(key));
}

/** @returns whether it was written: of concurrent callers the first wins */
export async function createSecret(key: string, secret: string): Promise<boolean> {
  return created(() => kvs.setSecret(key, secret, { keyPolicy: 'FAIL_IF_EXISTS' }));
}

/**
 * The value, or undefined for every way in which the platform may say that there is none: no body, `null`, `{}` and
 * `{"value": null}`. Atlassian documents none of them for `PREVIOUS`. No value of this app is null.
 */
function presentValue<T>(value: T | null | undefined): T | undefined {
  return value ?? undefined;
}

async function created(set: () => Promise<unknown>): Promise<boolean> {
  try {
    await set();
    return true;
  } catch (error) {
    if (error instanceof ForgeKvsAPIError && (error.code === 'KEY_CONFLICT' || error.responseDetails.status === 409)) return false;
    throw error;
  }
}

function seconds(value: number): { value: number; unit: 'SECONDS' } {
  return { value, unit: 'SECONDS' };
}
