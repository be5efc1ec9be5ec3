/** What the page shows: types alone, as the app's resolver returns them. */
export type { Change, Check, LinkProblem, LinkResult, Overview, Owners, PageData, Service, Status } from '../../apps/badge/src/page-data';
