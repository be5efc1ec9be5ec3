/** The last callbacks that reached the web trigger, for the page and for tests. */
import { parseObject } from './json';
import type { StateFolder } from './state';

export interface LoggedCallback {
  /** RFC 3339, milliseconds. */
  readonly at: string;
  /** Unverified: a refused body may contain anything. */
  readonly action: string;
  readonly tick: string | null;
  /** The response code, or the fault. */
  readonly code: string;
  /** HTTP status; 0 for a call without a response. */
  readonly status: number;
  /** Whether a fault replaced the app's response. */
  readonly fault: boolean;
  readonly transitions: unknown[];
}

const FILE = 'callbacks.json';
const KEPT = 100;

export class CallbackLog {
  private readonly entries: LoggedCallback[];

  constructor(private readonly state: StateFolder) {
    this.entries = state.json<LoggedCallback[]>(FILE, () => []);
  }

  add(body: string, outcome: { code: string; status: number; fault: boolean }): void {
    const fields = parseObject(body) ?? {};
    const entry = {
      at: new Date().toISOString(),
      action: typeof fields['action'] === 'string' ? fields['action'].slice(0, 20) : '?',
      tick: typeof fields['tick'] === 'string' ? fields['tick'].slice(0, 30) : null,
      ...outcome,
      transitions: Array.isArray(fields['transitions']) ? fields['transitions'].slice(0, 100) : [],
    };
    this.entries.unshift(entry);
    this.entries.length = Math.min(this.entries.length, KEPT);
    this.state.write(FILE, this.entries);
    console.log(`${entry.at} callback ${JSON.stringify(entry.action)} tick ${JSON.stringify(entry.tick)} -> ${entry.code}`);
  }

  /** Newest first. */
  list(): readonly LoggedCallback[] {
    return this.entries;
  }
}
