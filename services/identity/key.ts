/** Where a signing key is in its life: published, but not used yet; used; no longer used, but what it signed still counts. */
export type KeyPhase = 'upcoming' | 'current' | 'retired';

export interface KeyTimes {
  kid: string;
  activatesAt: Date;
}

export interface KeyPeriods {
  /** How long a key signs. */
  periodS: number;
  /** How long it is published before. */
  leadS: number;
  /** How long it is published after. */
  keptS: number;
}

const byAge = (keys: readonly KeyTimes[]) =>
  [...keys].sort((a, b) => a.activatesAt.getTime() - b.activatesAt.getTime());

/** The phase of each key at a time. The last one that is active signs; there is at most one. */
export function phasesOf(keys: readonly KeyTimes[], now: Date): Map<string, KeyPhase> {
  const active = byAge(keys).filter(({ activatesAt }) => activatesAt <= now);
  const current = active.at(-1)?.kid;
  return new Map(
    keys.map(({ kid, activatesAt }) => [kid, kid === current ? 'current' : activatesAt > now ? 'upcoming' : 'retired']),
  );
}

export interface RevocationPlan {
  /** The upcoming key that begins to sign now; null: none does. */
  activate: string | null;
  /** Whether a new key must be made that signs at once. */
  make: boolean;
}

/**
 * What else must happen when a key is deleted at once. After the current key another one must sign, and never a retired
 * one: it would sign for longer than it is published.
 */
export function planRevocation(keys: readonly KeyTimes[], kid: string, now: Date): RevocationPlan {
  const phases = phasesOf(keys, now);
  if (phases.get(kid) !== 'current') return { activate: null, make: false };
  // Services know an upcoming key already.
  const upcoming = byAge(keys).find((key) => phases.get(key.kid) === 'upcoming');
  return { activate: upcoming?.kid ?? null, make: !upcoming };
}

export interface KeyPlan {
  /** When a key that is to be made now begins to sign; null: none is needed. */
  make: Date | null;
  remove: string[];
}

/** What is to be done about the keys at a time. Doing it and asking again asks for nothing more. */
export function planKeys(keys: readonly KeyTimes[], periods: KeyPeriods, now: Date): KeyPlan {
  const sorted = byAge(keys);
  const newest = sorted.at(-1);
  if (!newest) return { make: now, remove: [] };
  const dueAt = newest.activatesAt.getTime() + periods.periodS * 1_000;
  const make = now.getTime() >= dueAt - periods.leadS * 1_000;
  // A key is done with once its successor has signed for so long that nothing of the elder is valid any more.
  const remove = sorted.filter((_, index) => {
    const successor = sorted[index + 1];
    return successor && successor.activatesAt.getTime() + periods.keptS * 1_000 < now.getTime();
  });
  return {
    // Late, after a night without any instance: published first all the same.
    make: make ? new Date(Math.max(dueAt, now.getTime() + periods.leadS * 1_000)) : null,
    remove: remove.map(({ kid }) => kid),
  };
}
