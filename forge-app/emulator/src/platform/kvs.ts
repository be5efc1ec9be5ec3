/**
 * Emulates `@forge/kvs`: the part of its interface that the app uses, with the semantics that
 * Atlassian documents.
 *
 * - Values are JSON of at most 240 KiB; keys have 1..500 characters of a fixed set.
 * - `keyPolicy: FAIL_IF_EXISTS` is atomic and fails with KEY_CONFLICT (409).
 * - A TTL belongs to one value: the next value has its own or none.
 * - An expired value may stay readable, and make FAIL_IF_EXISTS fail, for up to 48 hours. The emulator always takes the
 *   whole 48 hours, so that code which trusts the TTL alone fails here.
 * - Atlassian does not document what `returnValue: PREVIOUS` returns without a previous value. A test chooses it by `nothing`.
 *
 * It has no quotas, no rate limits and no eventual consistency.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';

const EXPIRY_LAG_MS = 48 * 3600 * 1000;
const MAX_VALUE_BYTES = 240 * 1024;
const KEY = /^(?!\s+$)[a-zA-Z0-9:._\s\-#]{1,500}$/;
const UNIT_MS = { SECONDS: 1000, MINUTES: 60_000, HOURS: 3_600_000, DAYS: 86_400_000 };

interface Item {
  json: string;
  expiresAt?: number;
}

interface SetOptions {
  ttl?: { value: number; unit: keyof typeof UNIT_MS };
  keyPolicy?: 'OVERRIDE' | 'FAIL_IF_EXISTS';
  returnValue?: 'PREVIOUS' | 'LATEST';
}

interface SetResult<T> {
  key: string | undefined;
  value: T | null | undefined;
}

/** How the platform may say that there was no value, and what `@forge/kvs` returns for each body. */
export const NOTHING = {
  '': undefined,
  null: undefined,
  '{}': { key: undefined, value: undefined },
  '{"value":null}': { key: undefined, value: null },
} as const satisfies Record<string, SetResult<never> | undefined>;
export type Nothing = keyof typeof NOTHING;

const MAX_TTL_MS = 366 * UNIT_MS.DAYS;

/** Prefix of secrets, which may have the same keys as values. */
const SECRET = 'secret ';

export class ForgeKvsError extends Error {}

export class ForgeKvsAPIError extends ForgeKvsError {
  constructor(
    readonly responseDetails: { status: number; statusText: string },
    readonly forgeError: { code: string; message: string },
  ) {
    super(forgeError.message);
  }
  get code(): string {
    return this.forgeError.code;
  }
}

/** One call to the store, for assertions about cost. */
export interface Operation {
  readonly kind: 'get' | 'set' | 'delete';
  readonly key: string;
  /** Size of the value written, in bytes; 0 for other kinds. */
  readonly bytes: number;
}

export class LocalKvs {
  private items = new Map<string, Item>();
  private file: string | undefined;
  /** Every call since the last {@link clear}. */
  readonly operations: Operation[] = [];
  /** Called before each operation; the operation fails with what it throws. */
  beforeOperation: ((operation: Operation) => void | Promise<void>) | undefined;
  /** What PREVIOUS returns without a previous value. */
  nothing: Nothing = '{}';

  get = async <T>(key: string): Promise<T | undefined> => (await this.read(key)) as T | undefined;
  set = async <T, U = T>(key: string, value: T, options?: SetOptions): Promise<SetResult<U> | undefined> =>
    (await this.write(key, value, options)) as SetResult<U> | undefined;
  delete = async (key: string): Promise<void> => this.remove(key);
  getSecret = async <T>(key: string): Promise<T | undefined> => (await this.read(key, SECRET)) as T | undefined;
  setSecret = async (key: string, value: unknown, options?: SetOptions): Promise<void> => {
    await this.write(key, value, options, SECRET);
  };
  deleteSecret = async (key: string): Promise<void> => this.remove(key, SECRET);

  /** Loads the store from a file, and keeps it there. */
  persistTo(file: string): void {
    this.file = file;
    try {
      this.items = new Map(Object.entries(JSON.parse(readFileSync(file, 'utf8')) as Record<string, Item>));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }

  /** Deletes everything, as after an uninstallation. */
  clear(): void {
    this.items.clear();
    this.operations.length = 0;
    this.beforeOperation = undefined;
    this.nothing = '{}';
    this.save();
  }

  /** All values as JSON texts by key. */
  contents(): Record<string, string> {
    return Object.fromEntries([...this.items].map(([key, { json }]) => [key, json]));
  }

  private async read(key: string, space = ''): Promise<unknown> {
    await this.admit({ kind: 'get', key, bytes: 0 });
    const item = this.find(space + key);
    return item === undefined ? undefined : JSON.parse(item.json);
  }

  private async write(key: string, value: unknown, options: SetOptions = {}, space = ''): Promise<SetResult<unknown> | undefined> {
    const json = JSON.stringify(value) as string | undefined;
    if (json === undefined) throw apiError(400, 'INVALID_VALUE', 'the value is not JSON');
    await this.admit({ kind: 'set', key, bytes: Buffer.byteLength(json) });
    if (Buffer.byteLength(json) > MAX_VALUE_BYTES) throw apiError(400, 'MAX_SIZE', 'the value is larger than 240 KiB');

    const { ttl } = options;
    const lifeMs = ttl === undefined ? undefined : ttl.value * UNIT_MS[ttl.unit];
    if (lifeMs !== undefined && !(lifeMs > 0 && lifeMs <= MAX_TTL_MS)) throw apiError(400, 'INVALID_OPTIONS', 'the TTL is not between now and a year');
    if (options.returnValue !== undefined && options.keyPolicy === 'FAIL_IF_EXISTS') throw apiError(400, 'INVALID_OPTIONS', 'FAIL_IF_EXISTS returns no value');
    const previous = this.find(space + key);
    if (options.keyPolicy === 'FAIL_IF_EXISTS' && previous !== undefined) throw apiError(409, 'KEY_CONFLICT', 'the key exists');
    this.items.set(space + key, lifeMs === undefined ? { json } : { json, expiresAt: Date.now() + lifeMs });
    this.save();
    if (options.returnValue === 'LATEST') return { key, value: JSON.parse(json) as unknown };
    if (options.returnValue !== 'PREVIOUS') return undefined;
    return previous === undefined ? NOTHING[this.nothing] : { key, value: JSON.parse(previous.json) as unknown };
  }

  private async remove(key: string, space = ''): Promise<void> {
    await this.admit({ kind: 'delete', key, bytes: 0 });
    this.items.delete(space + key);
    this.save();
  }

  private async admit(operation: Operation): Promise<void> {
    this.operations.push(operation);
    if (!KEY.test(operation.key)) throw apiError(400, 'INVALID_KEY', 'the key has other characters or another length');
    // The real store is a network call: others run in between.
    await Promise.resolve();
    await this.beforeOperation?.(operation);
  }

  private find(key: string): Item | undefined {
    const item = this.items.get(key);
    const gone = item?.expiresAt !== undefined && item.expiresAt + EXPIRY_LAG_MS <= Date.now();
    return gone ? undefined : item;
  }

  private save(): void {
    if (this.file === undefined) return;
    writeFileSync(`${this.file}.new`, JSON.stringify(Object.fromEntries(this.items)), { mode: 0o600 });
    renameSync(`${this.file}.new`, this.file);
  }
}

function apiError(status: number, code: string, message: string): ForgeKvsAPIError {
  return new ForgeKvsAPIError({ status, statusText: code }, { code, message });
}

export const kvs = new LocalKvs();
export default kvs;
