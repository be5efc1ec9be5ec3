import { readFileSync } from 'node:fs';

import { expect, it } from 'vitest';

import { SERVICES_PER_TENANT, TRANSITIONS_PER_REPORT } from '../src/service';

/** The backend's tests read the same file. */
it('the bounds of a report are those of testdata/limits.json', () => {
  const limits: unknown = JSON.parse(readFileSync(new URL('../../../../testdata/limits.json', import.meta.url), 'utf8'));
  expect(limits).toEqual({ servicesPerTenant: SERVICES_PER_TENANT, transitionsPerReport: TRANSITIONS_PER_REPORT });
});
