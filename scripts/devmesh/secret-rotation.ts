import { createHmac, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { password, readJson, type State, writeAtomically } from './state.ts';

/**
 * How far the replacement of the secrets has come: nothing under way; every process knows the next version; the next
 * version is the current one, and every process still knows the earlier one.
 */
export type SecretStage = 'steady' | 'started' | 'switched';

/** The secrets that services seal, hash and sign with; each service has a request hash key of its own. */
export type SecretName = 'identity' | 'acquirer-webhooks' | `request-hash:${string}`;

interface Versions {
  stage: SecretStage;
  /** What every secret of this version is derived from; empty: the secret of the state folder, as at the beginning. */
  current: string;
  /** The next or the earlier version; null in stage steady. */
  other: string | null;
  switchedAt: string | null;
  /** Whether every process has been restarted since the last change. */
  applied: boolean;
}

const first: Versions = { stage: 'steady', current: '', other: null, switchedAt: null, applied: true };
const fileOf = (state: State) => join(state.dir, 'secrets.json');
const versionsOf = (state: State): Versions => (existsSync(fileOf(state)) ? readJson<Versions>(fileOf(state))! : first);
const write = (state: State, versions: Versions) =>
  writeAtomically(fileOf(state), `${JSON.stringify(versions, null, 2)}\n`, 0o600);

/** The versions of a secret that a process knows: the current one, then the next or the earlier one. */
export function secretVersions(state: State, name: SecretName): [current: string, ...others: string[]] {
  const { current, other } = versionsOf(state);
  const derived = (root: string) =>
    root === '' ? password(state, name) : createHmac('sha256', root).update(name).digest('base64url').slice(0, 32);
  return [derived(current), ...(other === null ? [] : [derived(other)])];
}

export const secretStage = (state: State): Pick<Versions, 'stage' | 'applied' | 'switchedAt'> => versionsOf(state);

/** Restarts every process that runs, so that it reads its secrets again. */
export type RestartAll = () => Promise<void>;

/** First step: makes the next version, which every process then knows. Nothing is made with it yet. */
export async function startSecrets(state: State, restartAll: RestartAll): Promise<void> {
  const before = expectStage(state, 'steady', 'started');
  await apply(
    state,
    before.stage === 'started' ? before : { ...before, stage: 'started', other: randomBytes(32).toString('hex') },
    restartAll,
  );
}

/** Second step: the next version seals, hashes and signs. The earlier one still opens, compares and verifies. */
export async function switchSecrets(state: State, restartAll: RestartAll): Promise<void> {
  const before = expectStage(state, 'started', 'switched');
  const { current, other } = before;
  if (before.stage === 'started' && !before.applied) {
    throw new Error('not every process knows the next version yet; run armature secrets start again');
  }
  await apply(
    state,
    before.stage === 'switched' || other === null
      ? before
      : { ...before, stage: 'switched', current: other, other: current, switchedAt: new Date().toISOString() },
    restartAll,
  );
}

/** What still needs the earlier version. */
export interface Leftover {
  what: string;
  count: number;
  /** Whether it would be lost for good. Otherwise it ends: a link, a cookie, the memory of a request. */
  sealed: boolean;
}

/**
 * Last step: every process forgets the earlier version. Waits until stored values are sealed again. Changes nothing and
 * throws while anything needs the earlier version; `force` ignores what would only end.
 */
export async function retireSecrets(
  state: State,
  restartAll: RestartAll,
  { leftovers, force, waitMs = 60_000 }: { leftovers: () => Promise<Leftover[]>; force: boolean; waitMs?: number },
): Promise<void> {
  const before = expectStage(state, 'switched', 'steady');
  if (before.stage === 'steady' && before.applied) throw nextStep('steady');
  if (before.stage === 'switched') {
    if (!before.applied) throw new Error('not every process uses the new version; run armature secrets switch again');
    const deadline = Date.now() + waitMs;
    let left = await leftovers();
    while (left.some(({ sealed }) => sealed) && Date.now() < deadline) {
      await sleep(1_000);
      left = await leftovers();
    }
    const needed = left.filter(({ sealed }) => sealed || !force);
    if (needed.length > 0) {
      const list = needed.map(({ what, count }) => `${count} ${what}`).join(', ');
      throw new Error(`the earlier version is still needed by ${list}; it stays known`);
    }
  }
  await apply(state, { ...before, stage: 'steady', other: null, switchedAt: null }, restartAll);
}

/** An interrupted step is done again: the file says that it was not applied. */
async function apply(state: State, versions: Versions, restartAll: RestartAll): Promise<void> {
  write(state, { ...versions, applied: false });
  await restartAll();
  write(state, { ...versions, applied: true });
}

function expectStage(state: State, ...allowed: SecretStage[]): Versions {
  const versions = versionsOf(state);
  if (allowed.includes(versions.stage)) return versions;
  throw nextStep(versions.stage);
}

function nextStep(stage: SecretStage): Error {
  const next = { steady: 'start', started: 'switch', switched: 'retire' }[stage];
  return new Error(`the replacement of the secrets is at "${stage}"; the next step is armature secrets ${next}`);
}
