import { ForgeKvsAPIError, kvs } from '@forge/kvs';

/**
 * Forge's key-value store, as far as this app uses it. It has no conditional overwrite of a plain key. Two of its
 * operations are atomic: {@link createValue}, and {@link replaceValue}, which returns what it replaced.
 */

/** Reads a value; undefined when there is none. */
export async function readValue<T>(key: string): Promise<T | undefined> {
  return something(await kvs.get<T | null>(key));
}

/** Writes a value unless the key has one. @returns whether it was written */
export async function createValue(key: string, value: unknown, lifeS: number): Promise<boolean> {
  return created(() => kvs.set(key, value, { keyPolicy: 'FAIL_IF_EXISTS', ttl: seconds(lifeS) }));
}

/**
 * Writes a value whatever is there.
 *
 * @param lifeS without it the value stays
 * @returns what was there
 */
export async function replaceValue<T>(key: string, value: T, lifeS?: number): Promise<T | undefined> {
  const life = lifeS === undefined ? {} : { ttl: seconds(lifeS) };
  const replaced = (await kvs.set(key, value, { keyPolicy: 'OVERRIDE', returnValue: 'PREVIOUS', ...life })) as { value?: T | null } | null | undefined;
  return something(replaced?.value);
}

export async function deleteValue(key: string): Promise<void> {
  await kvs.delete(key);
}

/** Values of secrets are encrypted, and no query finds them. */
export async function readSecret(key: string): Promise<string | undefined> {
  return something(await kvs.getSecret<string | null>(key));
}

/** @returns whether it was written: of several makers at once the first wins */
export async function createSecret(key: string, secret: string): Promise<boolean> {
  return created(() => kvs.setSecret(key, secret, { keyPolicy: 'FAIL_IF_EXISTS' }));
}

/**
 * A value that is there, or undefined for every way in which the platform may say that there is none: no body, `null`,
 * `{}` and `{"value": null}`. Atlassian documents none of them for `PREVIOUS`. No value of this app is null.
 */
function something<T>(value: T | null | undefined): T | undefined {
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
