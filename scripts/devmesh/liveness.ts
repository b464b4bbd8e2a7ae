import { isSuspended } from './processes.ts';

/** When a service counts as hung. */
export interface LivenessLimits {
  /** Between the end of a probe and the next one. */
  everyMs: number;
  /** A probe without a response by then is a miss. */
  deadlineMs: number;
  /** Misses in a row. */
  missesMax: number;
}

/**
 * Long, because the machine may be busy: a service that a signal has stopped is noticed after 15 s, and one whose event
 * loop is blocked after 45 s. ARMATURE_LIVENESS_MS sets another interval.
 */
export function livenessLimits(env: NodeJS.ProcessEnv = process.env): LivenessLimits {
  const everyMs = Number(env.ARMATURE_LIVENESS_MS) || 5_000;
  return { everyMs, deadlineMs: 2 * everyMs, missesMax: 3 };
}

/** A process that should respond. */
export interface Watched {
  pid: number;
  /** host:port of its admin port; undefined while it does not have to respond yet. */
  address(): string | undefined;
}

/**
 * Probes a process until it is hung or `stop` is called: by its admin port, whose event loop is that of the service; and
 * before that port is open, by whether a signal has stopped the process. Calls `hung` once, with the reason.
 */
export function watchLiveness(
  { pid, address }: Watched,
  { everyMs, deadlineMs, missesMax }: LivenessLimits,
  hung: (why: string) => void,
): { stop(): void } {
  let [misses, stopped] = [0, false];
  let timer: NodeJS.Timeout;
  const probe = async () => {
    const began = performance.now();
    const where = address();
    const alive = !isSuspended(pid) && (where === undefined || (await responds(where, deadlineMs)));
    if (stopped) return;
    // When this process was itself held up, such as by a suspended machine, the probe says nothing.
    const heldUp = performance.now() - began > deadlineMs * 1.5;
    if (alive) misses = 0;
    else if (!heldUp) misses += 1;
    if (misses < missesMax) {
      timer = setTimeout(probe, everyMs);
      return;
    }
    stopped = true;
    hung(
      isSuspended(pid)
        ? 'hung: stopped by a signal'
        : `hung: no response to ${misses} probes of ${deadlineMs / 1000} s`,
    );
  };
  timer = setTimeout(probe, everyMs);
  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/** Any response is a sign of life. */
async function responds(address: string, deadlineMs: number): Promise<boolean> {
  try {
    const response = await fetch(`http://${address}/healthz`, { signal: AbortSignal.timeout(deadlineMs) });
    await response.arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
