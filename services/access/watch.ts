import type { WatchPolicyResponse } from '@armature/proto/access/v1/access.ts';
import type { OwnPolicy, Snapshot } from './policy-source.ts';

const chunkBytes = 1024 * 1024;
const confirmEveryMs = 1_000;
/** A version is confirmed only if it was found to be in force within this time. */
const confirmedMs = 2_000;
const nothing = Buffer.alloc(0);

/**
 * Sends the policy unless the caller already has it, and again whenever it changes. In between it sends a confirmation
 * of the version each second. While the head cannot be read it sends nothing, and the caller's copy ages.
 *
 * Versions are not queued: a slow caller gets the newest version when it reads again.
 */
export async function* watchPolicy(
  own: Pick<OwnPolicy, 'latest' | 'confirmed' | 'changed'>,
  digest: string,
  signal: AbortSignal,
): AsyncGenerator<WatchPolicyResponse> {
  let sent = digest;
  for (;;) {
    signal.throwIfAborted();
    const seen = own.latest();
    const snapshot = own.confirmed(confirmedMs);
    if (snapshot && snapshot.digest === sent) yield confirmation(snapshot);
    else if (snapshot) {
      yield* chunks(snapshot);
      sent = snapshot.digest;
    }
    await own.changed(snapshot ?? seen, confirmEveryMs, signal);
  }
}

const confirmation = ({ version, digest }: Snapshot): WatchPolicyResponse => ({
  version,
  digest,
  chunk: nothing,
  complete: true,
});

/** Slices of the one buffer that all watchers share; only encoding a message copies bytes. */
function* chunks({ version, digest, bytes }: Snapshot): Generator<WatchPolicyResponse> {
  for (let start = 0; start < bytes.length; start += chunkBytes) {
    const end = start + chunkBytes;
    yield { version, digest, chunk: bytes.subarray(start, end), complete: end >= bytes.length };
  }
}
