import type { RpcError } from '@armature/runtime/errors';

/**
 * The expected error of a refused call, for `t.rejects`: every field given here must match. tap compares objects field
 * by field, but its types only know the fields of Error.
 */
export function refusal(
  fields: Partial<Pick<RpcError, 'code' | 'reason' | 'metadata' | 'message' | 'details'>>,
): Error {
  return fields as Partial<RpcError> as Error;
}
