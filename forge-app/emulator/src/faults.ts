/** What the next calls of the web trigger get instead of the app: for tests of the backend's retries. */
import { type OutputKey, STATUS_OF_OUTPUT } from '../../apps/badge/src/outputs';

/** A protocol code, one of the platform's own errors, or no answer at all. */
export type Fault = OutputKey | 'hang' | 'http404' | 'http410' | 'http424' | 'http429' | 'http500';

const PLATFORM_FAULTS: readonly string[] = ['hang', 'http404', 'http410', 'http424', 'http429', 'http500'];

export class Faults {
  private fault: Fault | undefined;
  private left = 0;
  retryAfterS: number | undefined;

  /**
   * @param request `{answer, times?, retryAfter?}`; `answer: null` ends all faults, `times` is unlimited unless given
   * @returns false when the request is not one
   */
  set(request: unknown): boolean {
    const { answer = null, times = Infinity, retryAfter } = (request ?? {}) as { answer?: unknown; times?: unknown; retryAfter?: unknown };
    const known = answer === null || (typeof answer === 'string' && (Object.hasOwn(STATUS_OF_OUTPUT, answer) || PLATFORM_FAULTS.includes(answer)));
    if (!known || typeof times !== 'number' || times < 0 || (retryAfter !== undefined && typeof retryAfter !== 'number')) return false;
    this.fault = answer === null ? undefined : (answer as Fault);
    this.left = times;
    this.retryAfterS = retryAfter;
    return true;
  }

  /** The fault for one call, if any is left. */
  take(): Fault | undefined {
    if (this.fault === undefined || this.left <= 0) return undefined;
    this.left -= 1;
    return this.fault;
  }
}
