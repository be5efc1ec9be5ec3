import { type ReactNode, useRef, useState } from 'react';

import type { LinkProblem, LinkResult } from './data';

type Problem = LinkProblem | 'failed';

const PROBLEMS: Readonly<Record<Problem, string>> = {
  'not-configured': 'The app is not configured yet.',
  'no-account': 'Log in to Jira first.',
  'no-site': 'Atlassian did not say which site this is. Reload the page and try again.',
  'no-service': 'This service is no longer monitored. Reload the page.',
  'not-yours': 'Only the person who added this service can change it.',
  failed: 'The page could not be opened. Try again.',
};

/** A button that opens a page of the backend with a fresh hand-off. A double click opens one; a failure shows its reason. */
export function HandoffButton({ open, label, className, children }: {
  readonly open: () => Promise<LinkResult>;
  readonly label?: string;
  readonly className?: string;
  readonly children: ReactNode;
}) {
  const [opening, setOpening] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const busy = useRef(false);

  const press = async () => {
    if (busy.current) return;
    busy.current = true;
    setOpening(true);
    setProblem(undefined);
    try {
      const result = await open();
      if (!result.ok) setProblem(result.problem);
    } catch {
      setProblem('failed');
    } finally {
      busy.current = false;
      setOpening(false);
    }
  };
  return (
    <>
      <button type="button" className={className} aria-label={label} aria-disabled={opening} onClick={() => void press()}>{opening ? 'Opening…' : children}</button>
      {problem !== undefined && <p className="message error" role="alert">{PROBLEMS[problem]}</p>}
    </>
  );
}
