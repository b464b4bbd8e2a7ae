import type { Database } from '../db/database.ts';
import { RpcError } from '../errors/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import { Gauge, type Registry } from '../telemetry/metrics.ts';
import { backOff } from '../time/backoff.ts';

/**
 * Whether this service can handle events at all. Without its policy or its database it cannot judge any event:
 * consumption pauses, and no event loses an attempt.
 */
export interface Gate {
  /** What is missing; null when events can be handled. */
  missing(): string | null;
  /** Whether the error was caused by a missing policy or database that is still missing. The gate is closed then. */
  closesFor(error: unknown): Promise<boolean>;
  /** Resolves once events can be handled, or when the signal aborts. */
  whenOpen(signal: AbortSignal): Promise<void>;
  /** Calls `listener` whenever the gate opens or closes. */
  onChange(listener: (missing: string | null) => void): void;
  stop(): void;
}

export interface GateOptions {
  db: Pick<Database, 'read' | 'write'>;
  /** Whether there is a trusted policy. */
  policyLoaded: () => boolean;
  log: Logger;
  registry: Registry;
}

const lookBackoff = { initialBackoffMs: 100, maxBackoffMs: 2_000 };
const kinds = ['policy', 'database'] as const;
type Kind = (typeof kinds)[number];

/** Opens the gate; it is closed until the first check. */
export function openGate(options: GateOptions): Gate {
  const { log, registry } = options;
  const stopping = new AbortController();
  const listeners = new Set<(missing: Kind | null) => void>();
  let missing: Kind | null = 'policy';
  const waiting = new Set<() => void>();

  const set = (next: Kind | null): void => {
    if (next === missing) return;
    if (next === null) log.info('events are handled');
    else if (missing === null) log.warn({ missing: next }, 'consumption pauses; no event loses an attempt');
    missing = next;
    for (const listener of listeners) listener(missing);
    if (next === null) for (const resolve of [...waiting]) resolve();
  };
  const follow = async (): Promise<void> => {
    for (let looks = 0; missing !== null && !stopping.signal.aborted; looks += 1) {
      const found = await look(options);
      if (stopping.signal.aborted) return;
      set(found);
      if (found !== null) await backOff(looks + 1, lookBackoff, stopping.signal);
    }
  };
  void follow();

  new Gauge({
    name: 'armature_consumption_paused',
    help: '1 while this service handles no events, by what it lacks',
    labelNames: ['missing'] as const,
    registers: [registry],
    collect() {
      for (const kind of kinds) this.set({ missing: kind }, kind === missing ? 1 : 0);
    },
  });
  return {
    missing: () => missing,
    async closesFor(error) {
      if (!isCondition(error)) return false;
      if (missing !== null) return true;
      const found = await look(options);
      // Another event may have closed the gate meanwhile.
      if (missing !== null || stopping.signal.aborted) return missing !== null;
      if (found === null) return false;
      set(found);
      void follow();
      return true;
    },
    whenOpen: (signal) =>
      new Promise((resolve) => {
        if (missing === null || signal.aborted) return resolve();
        const done = () => {
          waiting.delete(done);
          signal.removeEventListener('abort', done);
          resolve();
        };
        waiting.add(done);
        signal.addEventListener('abort', done, { once: true });
      }),
    onChange: (listener) => void listeners.add(listener),
    stop: () => stopping.abort(),
  };
}

/** Errors that a missing policy or database causes. An event may cause them too, so the gate must still be checked. */
function isCondition(error: unknown): boolean {
  if (!(error instanceof RpcError)) return false;
  const { reason, metadata, details } = error;
  return (
    reason === 'POLICY_UNAVAILABLE' ||
    (reason === 'DEPENDENCY_UNAVAILABLE' && metadata.dependency === 'database') ||
    (reason === 'OVERLOADED' && details.quota?.subject === 'database')
  );
}

/** Returns what is missing now. The database is tested with a write: one that is full or read-only can still read. */
async function look({ db, policyLoaded }: GateOptions): Promise<Kind | null> {
  if (!policyLoaded()) return 'policy';
  try {
    await db.write(null, (sql) =>
      sql.execute(
        `insert into lease (name, holder, token, expires_at) values ('consumption', '', 0, utc_timestamp(6))
         on duplicate key update token = token + 1, expires_at = values(expires_at)`,
      ),
    );
    return null;
  } catch {
    // The error of the event has the details; here it only matters that the database still fails.
    return 'database';
  }
}
