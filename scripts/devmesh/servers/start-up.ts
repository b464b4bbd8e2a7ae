import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, isSuspended, type ProcessIdentity, stoppedBySignal } from '../processes.ts';
import { tail } from '../state.ts';

/** A private server that was launched, and how to find out whether it can be used. */
export interface StartingServer {
  /** As people call it: "RabbitMQ". */
  name: string;
  process: ProcessIdentity;
  log: string;
  deadlineMs: number;
  /** Resolves when the server can be used, and rejects until then. */
  probe(): Promise<void>;
  /** Told why the last probe failed. */
  waitingFor: (what: string) => void;
}

/** Waits until `probe` succeeds. Throws with the end of the log when the process has ended or the deadline has passed. */
export async function waitUntilUsable({
  name,
  process,
  log,
  deadlineMs,
  probe,
  waitingFor,
}: StartingServer): Promise<void> {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const failure = await probe().then(
      () => undefined,
      (error: Error) => error,
    );
    if (!failure) return;
    const suspended = isSuspended(process.pid) ? stoppedBySignal(process) : '';
    waitingFor(suspended || failure.message);
    if (!isAlive(process) || Date.now() > deadline) {
      const what = isAlive(process)
        ? `did not respond within ${deadlineMs / 1000} s (${suspended || failure.message})`
        : 'ended while starting';
      throw new Error(
        `the private ${name} ${what}; the end of ${log}:\n${tail(log)}\n` +
          'If its data cannot be read any more, `armature down --clean` starts over without it.',
      );
    }
    await sleep(50);
  }
}
