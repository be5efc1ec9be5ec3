/** The JSON that the resolver returns to the page. Types alone. */
import type { Variable } from './config';
import type { Overview } from './overview';

export type { Change } from './handoff';
export type { Overview } from './overview';
export type { Check, Service, Status } from './service';

export type PageData =
  | { readonly configured: false; readonly unusable: readonly Variable[] }
  | {
      readonly configured: true;
      readonly overview: Overview;
      /** Ids of the visitor's own services, which they may change. */
      readonly own: readonly string[];
      /** The server's clock, seconds since 1970: a wrong clock in the browser must not make a report overdue. */
      readonly now: number;
    };

/** Account ids by pseudonym, of the owners that are still known. */
export type Owners = Readonly<Record<string, string>>;

export type LinkProblem = 'not-configured' | 'no-account' | 'no-site' | 'no-service' | 'not-yours';

/** The URL of a page of the backend, with a hand-off. */
export type LinkResult = { readonly ok: true; readonly url: string } | { readonly ok: false; readonly problem: LinkProblem };
