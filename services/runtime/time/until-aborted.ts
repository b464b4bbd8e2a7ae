/**
 * Waits for `work` until the signal aborts, and rejects then with what `reasonOf` makes of its reason. The work itself
 * continues. A signal that has aborted before ends nothing: check it first where that is possible.
 */
export function untilAborted<T>(
  work: PromiseLike<T>,
  signal: AbortSignal,
  reasonOf: (reason: unknown) => unknown = (reason) => reason,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(reasonOf(signal.reason));
    signal.addEventListener('abort', abort, { once: true });
    Promise.resolve(work)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', abort));
  });
}
