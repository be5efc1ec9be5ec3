import { useCallback, useEffect, useState } from 'react';

import type { PageData } from './data';
import { addService, readNames, readPage } from './bridge';
import { HandoffButton } from './handoff-button';
import { isOverdue } from './overdue';
import { ServicesTable } from './services';
import { longDuration, shortDuration } from './time';
import { RecentTransitions } from './transitions';

const REFRESH_MS = 15_000;

const VARIABLE_HINTS = {
  BACKEND_URL: 'forge variables set BACKEND_URL https://...',
  BACKEND_PUBLIC_KEY: 'forge variables set BACKEND_PUBLIC_KEY "$(curl -fsS https://.../.well-known/jwks.json)"',
  HANDOFF_PRIVATE_KEY: 'npm run keygen',
} as const;

interface Loaded {
  readonly data: PageData;
  /** The browser's monotonic clock when the data arrived, in milliseconds. */
  readonly at: number;
}

export function Page() {
  const [loaded, setLoaded] = useState<Loaded>();
  const [failed, setFailed] = useState(false);
  const [names, setNames] = useState<ReadonlyMap<string, string>>(new Map());
  const clock = useClock();

  const load = useCallback(async () => {
    try {
      const data = await readPage();
      setLoaded({ data, at: performance.now() });
      setFailed(false);
    } catch {
      setFailed(true);
    }
  }, []);

  useEffect(() => {
    void load();
    const timer = setInterval(() => void load(), REFRESH_MS);
    return () => clearInterval(timer);
  }, [load]);

  // Names are loaded when the owners change, not with each poll.
  const owners = loaded?.data.configured === true ? [...new Set(loaded.data.overview.services.map(({ addedBy }) => addedBy))].sort().join(' ') : '';
  useEffect(() => {
    if (owners !== '') void readNames().then(setNames);
  }, [owners]);

  if (loaded === undefined) return failed ? <LoadingFailed retry={() => void load()} /> : <Loading />;
  const { data, at } = loaded;
  if (!data.configured) return <NotConfigured unusable={data.unusable} />;
  // The server's clock, advanced by the browser's.
  const now = Math.floor(data.now + Math.max(0, clock - at) / 1000);
  return <Monitor data={data} now={now} names={names} refreshFailed={failed} />;
}

function Monitor({ data, now, names, refreshFailed }: {
  readonly data: Extract<PageData, { configured: true }>;
  readonly now: number;
  readonly names: ReadonlyMap<string, string>;
  readonly refreshFailed: boolean;
}) {
  const { overview, own } = data;
  const overdue = isOverdue(overview, now);
  const down = overview.services.filter(({ status }) => status === 'DOWN').length;
  return (
    <main>
      <header>
        <h1>Health Monitor</h1>
        <HandoffButton open={addService}>Add service</HandoffButton>
      </header>
      {refreshFailed && <p className="message warning" role="status">This page could not be refreshed. It may be out of date, and retries automatically.</p>}
      {overdue && overview.receivedAt !== undefined && overview.nextUpdateBy !== undefined && (
        <div className="message error" role="alert">
          <p>
            <strong>No reports from the backend.</strong> The last report arrived {shortDuration(now - overview.receivedAt)} ago. The next one was due {shortDuration(now - overview.nextUpdateBy)} ago.
          </p>
          <p>The current status of the services below is unknown.</p>
        </div>
      )}
      {overview.services.length === 0 ? (
        <div className="empty">
          <h2>No services yet</h2>
          <p>Add the URL of a health check. It is checked {overview.periodS === undefined ? 'every few minutes' : `every ${longDuration(overview.periodS).replace(/^1 /, '')}`}, and its status appears here.</p>
        </div>
      ) : (
        <>
          <p className="subtle">
            {overview.services.length} {overview.services.length === 1 ? 'service' : 'services'}
            {!overdue && `, ${String(down)} down`}
            {overview.receivedAt !== undefined && `, ${overdue ? 'last report' : 'updated'} ${shortDuration(now - overview.receivedAt)} ago`}
          </p>
          <ServicesTable overview={overview} own={own} names={names} now={now} overdue={overdue} />
          <h2>Recent changes</h2>
          <RecentTransitions {...overview} />
        </>
      )}
    </main>
  );
}

function Loading() {
  return (
    <main aria-busy="true">
      <h1>Health Monitor</h1>
      <p className="subtle" role="status">Loading…</p>
    </main>
  );
}

function LoadingFailed({ retry }: { readonly retry: () => void }) {
  return (
    <main>
      <h1>Health Monitor</h1>
      <div className="message error" role="alert">
        <p><strong>The services could not be loaded.</strong> Checks continue; only this page is affected.</p>
        <p><button type="button" className="secondary" onClick={retry}>Try again</button></p>
      </div>
    </main>
  );
}

function NotConfigured({ unusable }: { readonly unusable: readonly (keyof typeof VARIABLE_HINTS)[] }) {
  return (
    <main>
      <h1>Health Monitor</h1>
      <div className="message warning">
        <p><strong>{unusable.includes('BACKEND_URL') ? 'Backend URL not configured' : 'The app is not configured yet'}</strong></p>
        <p>
          {unusable.length === 1 ? 'This Forge variable is missing or cannot be used' : 'These Forge variables are missing or cannot be used'}:{' '}
          {unusable.map((name, at) => <span key={name}>{at > 0 && ', '}<code>{name}</code></span>)}.
          {unusable.includes('BACKEND_URL') && ' The backend URL must start with https.'}
        </p>
      </div>
      <p>The developer of this app sets them in the app&apos;s folder:</p>
      <pre tabIndex={0} aria-label="Commands"><code>{[...unusable.map((name) => VARIABLE_HINTS[name]), 'forge deploy'].join('\n')}</code></pre>
    </main>
  );
}

/** A clock that ticks once a second: milliseconds of the browser's monotonic clock. */
function useClock(): number {
  const [time, setTime] = useState(() => performance.now());
  useEffect(() => {
    const timer = setInterval(() => setTime(performance.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return time;
}
