import { createHmac, randomBytes } from 'node:crypto';

import { HANDOFF_USABLE_S } from './handoff';
import { createSecret, readSecret, readValue, replaceValue } from './kvs';
import { ownersShown, readOverview } from './overview';

/**
 * Who added a service, without telling the backend.
 *
 * Atlassian account ids are personal data, and an app that never calls out could not ask the backend to erase
 * them. So the backend gets a pseudonym: an HMAC of the account id under a secret of this installation, which is
 * stable (the backend limits services per owner) and means nothing elsewhere.
 *
 * The way back is `owner:<pseudonym>`, and it ends:
 *
 * 1. "Add service" writes it for as long as the hand-off may be used ({@link LINK_OPEN_S}), or prolongs it.
 * 2. A REGISTER or a report that names the pseudonym first keeps it, without an end.
 * 3. The report that names it no longer ends it after {@link LINK_OPEN_S}: the person may have a link open since before.
 *    A registration with that link is step 2 again.
 *
 * Only a change of who is named writes: reports that name the same people cost nothing here. What is past its end counts as
 * absent at once; the store may return it for 48 hours more. Two callbacks can disagree about who is named, since each sees
 * what was stored when it looked. So who has written looks again, until what was written is what is stored
 * ({@link settleOwners}).
 */
type StoredOwner = [accountId: string, until: number | null];

/** How long a link to register may still lead to a REGISTER, with a minute for an invocation that is under way, in seconds. */
export const LINK_OPEN_S = HANDOFF_USABLE_S + 60;
/** How often who is named may change while one invocation looks. */
const MAX_ROUNDS = 10;

/** The pseudonym of an account: the same each time, without any trace in the store. */
export async function pseudonymOf(accountId: string): Promise<string> {
  return createHmac('sha256', await ownerSecret()).update(accountId).digest('base64url').slice(0, 32);
}

/** The pseudonym of who gets a link to register now, with the way back for as long as the link may be used. */
export async function rememberRequester(accountId: string, now: Date): Promise<string> {
  const pseudonym = await pseudonymOf(accountId);
  const known = await readValue<StoredOwner>(keyOf(pseudonym));
  if (known?.[1] === null) return pseudonym;
  await writeEnd(pseudonym, accountId, now);
  await settleOwners([pseudonym], now);
  return pseudonym;
}

/** The accounts behind pseudonyms of this installation, by pseudonym. */
export async function accountsOf(pseudonyms: Iterable<string>, now: Date): Promise<Record<string, string>> {
  const entries = await Promise.all([...pseudonyms].map(async (pseudonym) => [pseudonym, await readOwner(pseudonym, now)] as const));
  return Object.fromEntries(entries.flatMap(([pseudonym, owner]) => (owner === undefined ? [] : [[pseudonym, owner[0]]])));
}

/**
 * Keeps the way back for those of `pseudonyms` whose services are shown, and ends it for the others.
 *
 * @throws Error when who is named changes again and again: the same callback is to be sent once more
 */
export async function settleOwners(pseudonyms: Iterable<string>, now: Date): Promise<void> {
  let open = [...new Set(pseudonyms)];
  for (let round = 0; open.length > 0; round += 1) {
    if (round === MAX_ROUNDS) throw new Error('who is named does not settle');
    const named = ownersShown(await readOverview());
    await writeOwners(open, named, now);
    const since = ownersShown(await readOverview());
    open = open.filter((pseudonym) => named.has(pseudonym) !== since.has(pseudonym));
  }
}

/** One step of {@link settleOwners}, for what is about to be stored. */
export async function writeOwners(pseudonyms: Iterable<string>, named: ReadonlySet<string>, now: Date): Promise<void> {
  await Promise.all([...pseudonyms].map((pseudonym) => (named.has(pseudonym) ? keep(pseudonym, now) : end(pseudonym, now))));
}

async function keep(pseudonym: string, now: Date): Promise<void> {
  const owner = await readOwner(pseudonym, now);
  if (owner === undefined || owner[1] === null) return;
  await replaceValue<StoredOwner>(keyOf(pseudonym), [owner[0], null]);
}

/** What has an end keeps it: it was made for a link, which may be younger than what was reported. */
async function end(pseudonym: string, now: Date): Promise<void> {
  const owner = await readOwner(pseudonym, now);
  if (owner?.[1] === null) await writeEnd(pseudonym, owner[0], now);
}

async function writeEnd(pseudonym: string, accountId: string, now: Date): Promise<void> {
  await replaceValue<StoredOwner>(keyOf(pseudonym), [accountId, Math.floor(now.getTime() / 1000) + LINK_OPEN_S], LINK_OPEN_S);
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

/** The installation's secret, made at its first use; of several makers at once the first wins. */
export async function ownerSecret(): Promise<string> {
  const known = await readSecret('owner-secret');
  if (known !== undefined) return known;
  const made = randomBytes(32).toString('base64url');
  if (await createSecret('owner-secret', made)) return made;
  const stored = await readSecret('owner-secret');
  if (stored === undefined) throw new Error('the store kept no secret');
  return stored;
}
