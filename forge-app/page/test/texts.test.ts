/** The page's texts, without a browser. */
import { describe, expect, it } from 'vitest';

import { reasonText, transitionReason } from '../src/reasons';
import { longDuration } from '../src/time';

describe('a reason', () => {
  it.each([['timeout', 'Timed out'], ['not-checked', 'Not checked three times in a row'], ['solar-flare', 'solar-flare'], ['toString', 'toString']])('"%s" is shown as "%s"', (reason, words) => {
    expect(reasonText(reason)).toBe(words);
    expect(transitionReason(reason)).toBe(words);
  });

  it.each(['', 'ok', 'paused', 'resumed'])('"%s" is not shown beside a transition', (reason) => {
    expect(transitionReason(reason)).toBeUndefined();
  });
});

it.each([[60, '1 minute'], [600, '10 minutes'], [3599, '59 minutes'], [3600, '1 hour'], [7199, '1 hour'], [90_000, '25 hours'], [172_800, '2 days']])('%i s are "%s"', (seconds, words) => {
  expect(longDuration(seconds)).toBe(words);
});
