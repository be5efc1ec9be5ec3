/**
 * Stand-in for `@forge/kvs`: the part of its interface that the app uses, with the semantics that
 * Atlassian documents.
 *
 * - Values are JSON of at most 240 KiB; keys have 1..500 characters of a fixed set.
 * - `keyPolicy: FAIL_IF_EXISTS` is atomic and fails with KEY_CONFLICT (409).
 * - A value whose TTL is over may stay readable, and in the way of FAIL_IF_EXISTS, for up to 48 hours. The
 *   stand-in always takes the whole 48 hours, so that code which trusts the TTL alone fails here.
 *
 * It does not measure: no quotas, no rate limits, no eventual consistency.
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
  key: string;
  value: T;
}

/** Secrets live beside the other values, under the same keys. */
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

/** One call that reached the store: what a test asserts about cost. */
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
  /** When set, called before each operation; what it throws is what the store answers. */
  beforeOperation: ((operation: Operation) => void | Promise<void>) | undefined;

  get = async <T>(key: string): Promise<T | undefined> => (await this.read(key)) as T | undefined;
  set = async <T, U = T>(key: string, value: T, options?: SetOptions): Promise<SetResult<U> | undefined> =>
    (await this.write(key, value, options)) as SetResult<U> | undefined;
  delete = async (key: string): Promise<void> => this.remove(key);
  getSecret = async <T>(key: string): Promise<T | undefined> => (await this.read(key, SECRET)) as T | undefined;
  setSecret = async (key: string, value: unknown, options?: SetOptions): Promise<void> => {
    await this.write(key, value, options, SECRET);
  };
  deleteSecret = async (key: string): Promise<void> => this.remove(key, SECRET);

  /** Keeps the store in a file from now on, starting with what the file holds. */
  persistTo(file: string): void {
    this.file = file;
    try {
      this.items = new Map(Object.entries(JSON.parse(readFileSync(file, 'utf8')) as Record<string, Item>));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }

  /** Forgets everything, as an installation does that is removed. */
  clear(): void {
    this.items.clear();
    this.operations.length = 0;
    this.beforeOperation = undefined;
    this.save();
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

    const previous = this.find(space + key);
    if (options.keyPolicy === 'FAIL_IF_EXISTS' && previous !== undefined) throw apiError(409, 'KEY_CONFLICT', 'the key exists');
    const { ttl } = options;
    this.items.set(space + key, ttl === undefined ? { json } : { json, expiresAt: Date.now() + ttl.value * UNIT_MS[ttl.unit] });
    this.save();
    if (options.returnValue === 'LATEST') return { key, value: JSON.parse(json) as unknown };
    if (options.returnValue === 'PREVIOUS' && previous !== undefined) return { key, value: JSON.parse(previous.json) as unknown };
    return undefined;
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
