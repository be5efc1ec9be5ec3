import { createHmac, randomBytes } from 'node:crypto';

import { HANDOFF_USABLE_S } from './handoff';
import { createSecret, readSecret, readValue, replaceValue } from './kvs';
import { ownersShown, readOverview } from './overview';

/**
 * The owners of services. The backend knows pseudonyms only.
 *
 * Atlassian account ids are personal data, and an app that never calls out could not ask the backend to erase them. A
 * pseudonym is an HMAC of the account id under a secret of this installation: stable, since the backend limits services per
 * owner, and meaningless elsewhere.
 *
 * `owner:<pseudonym>` maps a pseudonym to its account:
 *
 * 1. "Add service" writes it for {@link LINK_LIFETIME_S}, as long as its link can lead to a registration, or prolongs it.
 * 2. A REGISTER or a report that names the pseudonym keeps it without an end.
 * 3. The first report that no longer names it ends it after {@link LINK_LIFETIME_S}: the person may still have a link open.
 *    A registration with that link is step 2 again.
 *
 * Reports that name the same owners write nothing here. A mapping past its end counts as absent at once; the store may
 * return it for 48 hours more. Concurrent callbacks can disagree about the owners, because each reads at another moment. So
 * a callback that has written reads again, until what it wrote agrees with what is stored ({@link reconcileOwners}).
 */
type StoredOwner = [accountId: string, until: number | null];

/** How long a link can lead to a REGISTER, with a minute for an invocation under way, in seconds. */
export const LINK_LIFETIME_S = HANDOFF_USABLE_S + 60;
/** How often the owners may change during one invocation. */
const MAX_ATTEMPTS = 10;

/** The pseudonym of an account. Writes nothing about the account. */
export async function pseudonymOf(accountId: string): Promise<string> {
  return createHmac('sha256', await ownerSecret()).update(accountId).digest('base64url').slice(0, 32);
}

/** The pseudonym of a person who gets a registration link now; maps it to the account while the link can be used. */
export async function recordRequester(accountId: string, now: Date): Promise<string> {
  const pseudonym = await pseudonymOf(accountId);
  const known = await readValue<StoredOwner>(keyOf(pseudonym));
  if (known?.[1] === null) return pseudonym;
  await writeEnd(pseudonym, accountId, now);
  await reconcileOwners([pseudonym], now);
  return pseudonym;
}

/** The accounts behind pseudonyms of this installation, by pseudonym. */
export async function accountsOf(pseudonyms: Iterable<string>, now: Date): Promise<Record<string, string>> {
  const entries = await Promise.all([...pseudonyms].map(async (pseudonym) => [pseudonym, await readOwner(pseudonym, now)] as const));
  return Object.fromEntries(entries.flatMap(([pseudonym, owner]) => (owner === undefined ? [] : [[pseudonym, owner[0]]])));
}

/**
 * Keeps the mappings of those `pseudonyms` whose services are shown, and ends the others.
 *
 * @throws Error when the owners change again and again: the callback gets RETRY
 */
export async function reconcileOwners(pseudonyms: Iterable<string>, now: Date): Promise<void> {
  let open = [...new Set(pseudonyms)];
  for (let attempt = 0; open.length > 0; attempt += 1) {
    if (attempt === MAX_ATTEMPTS) throw new Error('the owners keep changing');
    const shown = ownersShown(await readOverview());
    await writeOwners(open, shown, now);
    const shownNow = ownersShown(await readOverview());
    open = open.filter((pseudonym) => shown.has(pseudonym) !== shownNow.has(pseudonym));
  }
}

/** Keeps or ends each mapping, for a report that is about to be stored. */
export async function writeOwners(pseudonyms: Iterable<string>, shown: ReadonlySet<string>, now: Date): Promise<void> {
  await Promise.all([...pseudonyms].map((pseudonym) => (shown.has(pseudonym) ? keep(pseudonym, now) : end(pseudonym, now))));
}

async function keep(pseudonym: string, now: Date): Promise<void> {
  const owner = await readOwner(pseudonym, now);
  if (owner === undefined || owner[1] === null) return;
  await replaceValue<StoredOwner>(keyOf(pseudonym), [owner[0], null]);
}

/** A mapping that has an end keeps it: its link may be newer than the report. */
async function end(pseudonym: string, now: Date): Promise<void> {
  const owner = await readOwner(pseudonym, now);
  if (owner?.[1] === null) await writeEnd(pseudonym, owner[0], now);
}

async function writeEnd(pseudonym: string, accountId: string, now: Date): Promise<void> {
  await replaceValue<StoredOwner>(keyOf(pseudonym), [accountId, Math.floor(now.getTime() / 1000) + LINK_LIFETIME_S], LINK_LIFETIME_S);
}

async function readOwner(pseudonym: string, now: Date): Promise<StoredOwner | undefined> {
  if (!/^[A-Za-z0-9_-]{32}$/.test(pseudonym)) return undefined;
  const owner = await readValue<StoredOwner>(keyOf(pseudonym));
  if (owner === undefined) return undefined;
  return owner[1] !== null && owner[1] <= now.getTime() / 1000 ? undefined : owner;
}

function keyOf(pseudonym: string): string {
  return `owner:${pseudonym}`;
}

/** The installation's secret, created at its first use; of concurrent callers the first wins. */
export async function ownerSecret(): Promise<string> {
  const known = await readSecret('owner-secret');
  if (known !== undefined) return known;
  const made = randomBytes(32).toString('base64url');
  if (await createSecret('owner-secret', made)) return made;
  const stored = await readSecret('owner-secret');
  if (stored === undefined) throw new Error('the store kept no secret');
  return stored;
}
