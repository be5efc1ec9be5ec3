/** Runs several callers of the store concurrently, one operation at a time, in an order that the test chooses. */
import { AsyncLocalStorage } from 'node:async_hooks';

import type { Operation } from '../../../../emulator/src/platform/kvs';
import { kvs } from './site';

/** The scheduler's next step: a caller's next operation, or its death before that. */
export interface Step {
  readonly caller: number;
  readonly dies: boolean;
}

export type Caller = () => Promise<unknown>;
type Outcome = { readonly result: unknown } | { readonly failed: unknown } | 'died';

const callerNow = new AsyncLocalStorage<number>();

/**
 * @param choose picks the next step; undefined abandons the run
 * @returns the outcome of each caller, undefined when the run was abandoned
 */
export async function interleave(callers: readonly Caller[], choose: (waiting: readonly number[], history: readonly string[]) => Step | undefined): Promise<Outcome[] | undefined> {
  const waiting = new Map<number, { operation: Operation; go: () => void }[]>();
  const outcomes: (Outcome | undefined)[] = callers.map(() => undefined);
  const history: string[] = [];
  let wake = (): void => undefined;
  kvs.beforeOperation = (operation) =>
    new Promise((go) => {
      const caller = callerNow.getStore() ?? -1;
      waiting.set(caller, [...(waiting.get(caller) ?? []), { operation, go }]);
      wake();
    });
  callers.forEach((caller, at) => {
    const done = (outcome: Outcome) => {
      outcomes[at] = outcome;
      wake();
    };
    callerNow.run(at, caller).then((result) => done({ result }), (failed: unknown) => done({ failed }));
  });
  for (;;) {
    const going = () => outcomes.filter((outcome) => outcome === undefined).length;
    while (waiting.size < going()) await new Promise<void>((resolve) => (wake = resolve));
    if (going() === 0) break;
    const step = choose([...waiting.keys()].sort((a, b) => a - b), history);
    if (step === undefined) return undefined;
    const [next, ...others] = waiting.get(step.caller) ?? [];
    if (next === undefined) throw new Error('the chosen caller does not wait');
    if (others.length === 0 || step.dies) waiting.delete(step.caller);
    else waiting.set(step.caller, others);
    const { kind, key } = next.operation;
    history.push(`${String(step.caller)} ${step.dies ? 'dies' : `${kind} ${key} ${kvs.contents()[key] ?? ''}`}`);
    if (step.dies) outcomes[step.caller] = 'died';
    else next.go();
  }
  kvs.beforeOperation = undefined;
  return outcomes.map((outcome) => outcome ?? 'died');
}

/**
 * Runs every order of the callers' operations. A state that another order reached before (the same store, and the same
 * results for every caller) is not continued a second time: the rest is the same.
 *
 * @param start creates the store and the callers anew
 * @param mayDie the callers of which one may die, at any point
 * @returns the number of different complete runs
 */
export async function everyInterleaving(start: () => Promise<readonly Caller[]>, check: (outcomes: readonly Outcome[]) => Promise<void>, mayDie: readonly number[] = []): Promise<number> {
  const seen = new Set<string>();
  const open: Step[][] = [[]];
  let runs = 0;
  for (let prefix = open.pop(); prefix !== undefined; prefix = open.pop()) {
    const steps: Step[] = [];
    const planned = prefix;
    kvs.clear();
    const outcomes = await interleave(await start(), (waiting, history) => {
      let step = planned[steps.length];
      if (step === undefined) {
        const state = JSON.stringify([kvs.contents(), [...history].sort((a, b) => Number(a.split(' ')[0]) - Number(b.split(' ')[0]))]);
        if (seen.has(state)) return undefined;
        seen.add(state);
        const alive = waiting.map((caller) => ({ caller, dies: false }));
        const deaths = history.some((entry) => entry.endsWith(' dies')) ? [] : waiting.filter((caller) => mayDie.includes(caller)).map((caller) => ({ caller, dies: true }));
        const [first, ...others] = [...alive, ...deaths];
        for (const other of others) open.push([...steps, other]);
        step = first;
      }
      if (step !== undefined) steps.push(step);
      return step;
    });
    if (outcomes === undefined) continue;
    runs += 1;
    await check(outcomes);
  }
  return runs;
}

/** Random numbers from 0 up to 1, the same for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
