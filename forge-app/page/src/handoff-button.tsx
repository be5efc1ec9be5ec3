import { type ReactNode, useRef, useState } from 'react';

import type { LinkResult } from './data';

type Problem = Extract<LinkResult, { ok: false }>['problem'] | 'failed';

const PROBLEMS: Readonly<Record<Problem, string>> = {
  'not-configured': 'The app is not configured yet.',
  'no-account': 'Log in first: it is done in your name.',
  'no-site': 'Atlassian did not tell the app which site this is. Reload the page and try again.',
  'no-service': 'This service is not monitored any more. Reload the page.',
  'not-yours': 'Another person added this service, and can change it.',
  failed: 'That page could not be opened. Try again.',
};

/** A button that leads to a page of the backend: pressed twice it asks once, and it says why when it leads nowhere. */
export function Leaving({ go, label, className, children }: {
  readonly go: () => Promise<LinkResult>;
  readonly label?: string;
  readonly className?: string;
  readonly children: ReactNode;
}) {
  const [leaving, setLeaving] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const busy = useRef(false);

  const leave = async () => {
    if (busy.current) return;
    busy.current = true;
    setLeaving(true);
    setProblem(undefined);
    try {
      const result = await go();
      if (!result.ok) setProblem(result.problem);
    } catch {
      setProblem('failed');
    } finally {
      busy.current = false;
      setLeaving(false);
    }
  };
  return (
    <>
      <button type="button" className={className} aria-label={label} aria-disabled={leaving} onClick={() => void leave()}>{leaving ? 'Opening…' : children}</button>
      {problem !== undefined && <p className="message error" role="alert">{PROBLEMS[problem]}</p>}
    </>
  );
}
