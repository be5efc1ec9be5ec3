import { useCallback, useEffect, useState } from 'react';

import type { PageData } from '../../../src/page-data';
import { addService, readNames, readPage } from './bridge';
import { RecentChanges } from './changes';
import { Leaving } from './leaving';
import { ServicesTable } from './services';
import { isSilent } from './silence';
import { atTime, duration, iso } from './time';

const REFRESH_MS = 15_000;

const VARIABLE_HINTS = {
  BACKEND_URL: 'forge variables set BACKEND_URL https://...',
  BACKEND_PUBLIC_KEY: 'forge variables set BACKEND_PUBLIC_KEY "$(curl -fsS https://.../.well-known/jwks.json)"',
  HANDOFF_PRIVATE_KEY: 'npm run keygen',
} as const;

interface Loaded {
  readonly data: PageData;
  /** The browser's monotonic clock when the data came, in milliseconds. */
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

  const owners = loaded?.data.configured === true ? [...new Set(Object.values(loaded.data.overview.owners))].sort().join(' ') : '';
  useEffect(() => {
    if (owners !== '') void readNames(owners.split(' ')).then(setNames);
  }, [owners]);

  if (loaded === undefined) return failed ? <LoadingFailed retry={() => void load()} /> : <Loading />;
  const { data, at } = loaded;
  if (!data.configured) return <NotConfigured unusable={data.unusable} />;
  // The server's clock, carried on by the browser's: never later than what was really heard.
  const now = Math.floor(data.now + Math.max(0, clock - at) / 1000);
  return <Monitor data={data} now={now} names={names} refreshFailed={failed} />;
}

function Monitor({ data, now, names, refreshFailed }: {
  readonly data: Extract<PageData, { configured: true }>;
  readonly now: number;
  readonly names: ReadonlyMap<string, string>;
  readonly refreshFailed: boolean;
}) {
  const { overview, own, checkEveryMinutes } = data;
  const silent = isSilent(overview, now, checkEveryMinutes);
  const down = overview.services.filter(({ status }) => status === 'DOWN').length;
  return (
    <main>
      <header>
        <h1>Health Monitor</h1>
        <Leaving go={addService}>Add service</Leaving>
      </header>
      {refreshFailed && <p className="message warning" role="status">This page could not be refreshed. What you see may be out of date; it tries again by itself.</p>}
      {silent && overview.heardAt !== undefined && (
        <div className="message error" role="alert">
          <p>
            <strong>The backend is silent.</strong> Nothing was heard for {duration(now - overview.heardAt)};{' '}
            {overview.nextUpdateBy === undefined ? `a report is due every ${String(checkEveryMinutes)} min.` : `a report was due ${duration(now - overview.nextUpdateBy)} ago.`}
          </p>
          <p>Whether the services below are up is not known.</p>
        </div>
      )}
      {overview.services.length === 0 ? (
        <div className="blank">
          <h2>No service is monitored yet</h2>
          <p>Add the address of a health check. It is then called every {checkEveryMinutes} min, and its status appears here.</p>
        </div>
      ) : (
        <>
          <p className="subtle">
            {overview.services.length} {overview.services.length === 1 ? 'service' : 'services'}
            {!silent && `, ${String(down)} down`}
            {overview.heardAt !== undefined && `, ${overview.nextUpdateBy === undefined ? 'updated' : 'last report'} ${duration(now - overview.heardAt)} ago`}
            {!silent && overview.nextUpdateBy !== undefined && <Quiet until={overview.nextUpdateBy} checkEveryMinutes={checkEveryMinutes} />}
          </p>
          <ServicesTable overview={overview} own={own} names={names} now={now} silent={silent} />
          <h2>Recent changes</h2>
          <RecentChanges {...overview} />
        </>
      )}
    </main>
  );
}

/** What no news means when the backend tells changes only. */
function Quiet({ until, checkEveryMinutes }: { readonly until: number; readonly checkEveryMinutes: number }) {
  return (
    <>
      . Checked every {checkEveryMinutes} min; a change is reported at once, otherwise the next report is due by{' '}
      <time dateTime={iso(until)}>{atTime(until)}</time>.
    </>
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
        <p><strong>The services could not be loaded.</strong> The checks go on; only this page has a problem.</p>
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
          {unusable.includes('BACKEND_URL') && ' The backend URL must begin with https.'}
        </p>
      </div>
      <p>Whoever deploys this app sets them, in the app&apos;s folder:</p>
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
