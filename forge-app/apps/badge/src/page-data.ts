/** What the page and the resolver say to each other: plain JSON, no code. */
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
      /** Ids of the services that the person who looks has added, and may change. */
      readonly own: readonly string[];
      /** The server's clock, seconds since 1970: a wrong clock in the browser must not make a backend silent. */
      readonly now: number;
    };

/** Account ids by pseudonym, of those whose services are shown; who is not in it is not known any more. */
export type Owners = Readonly<Record<string, string>>;

export type LinkResult =
  | { readonly ok: true; readonly url: string }
  | { readonly ok: false; readonly problem: 'not-configured' | 'no-account' | 'no-site' | 'no-service' | 'not-yours' };
