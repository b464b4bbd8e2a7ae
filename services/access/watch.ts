import type { WatchPolicyResponse } from '@armature/proto/access/v1/access.ts';
import type { OwnPolicy, Snapshot } from './policy-source.ts';

const chunkBytes = 1024 * 1024;
const signMs = 1_000;
/** A sign is given only of what was found to be in force as lately as this. */
const confirmedMs = 2_000;
const nothing = Buffer.alloc(0);

/**
 * Sends the policy unless the caller holds it, and again whenever it changes; in between a sign each second. A version
 * that nobody could look at is not vouched for: the caller hears nothing, and what it holds grows old.
 *
 * Nothing is queued: whoever reads slowly gets the newest version when it is ready for another.
 */
export async function* watchPolicy(
  own: Pick<OwnPolicy, 'latest' | 'confirmed' | 'changed'>,
  digest: string,
  signal: AbortSignal,
): AsyncGenerator<WatchPolicyResponse> {
  let held = digest;
  for (;;) {
    signal.throwIfAborted();
    const seen = own.latest();
    const snapshot = own.confirmed(confirmedMs);
    if (snapshot && snapshot.digest === held) yield sign(snapshot);
    else if (snapshot) {
      yield* chunks(snapshot);
      held = snapshot.digest;
    }
    await own.changed(snapshot ?? seen, signMs, signal);
  }
}

const sign = ({ version, digest }: Snapshot): WatchPolicyResponse => ({
  version,
  digest,
  chunk: nothing,
  complete: true,
});

/** Parts of the text that all watchers share; only what goes over the wire is copied. */
function* chunks({ version, digest, bytes }: Snapshot): Generator<WatchPolicyResponse> {
  for (let start = 0; start < bytes.length; start += chunkBytes) {
    const end = start + chunkBytes;
    yield { version, digest, chunk: bytes.subarray(start, end), complete: end >= bytes.length };
  }
}
