/** Replaces the next responses of the web trigger, to test the backend's retries. */
import { type ResponseCode, STATUS_OF_CODE } from '../../apps/badge/src/responses';

/** A code of the protocol, one of the platform's own errors, or no response at all. */
export type Fault = ResponseCode | 'hang' | 'http404' | 'http410' | 'http424' | 'http429' | 'http500';

const PLATFORM_FAULTS: readonly string[] = ['hang', 'http404', 'http410', 'http424', 'http429', 'http500'];

export class Faults {
  private fault: Fault | undefined;
  private left = 0;
  retryAfterS: number | undefined;

  /**
   * @param request `{response, times?, retryAfter?}`; `response: null` ends all faults, `times` is unlimited by default
   * @returns false when the request is not one
   */
  set(request: unknown): boolean {
    const { response = null, times = Infinity, retryAfter } = (request ?? {}) as { response?: unknown; times?: unknown; retryAfter?: unknown };
    const known = response === null || (typeof response === 'string' && (Object.hasOwn(STATUS_OF_CODE, response) || PLATFORM_FAULTS.includes(response)));
    if (!known || typeof times !== 'number' || times < 0 || (retryAfter !== undefined && typeof retryAfter !== 'number')) return false;
    this.fault = response === null ? undefined : (response as Fault);
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
