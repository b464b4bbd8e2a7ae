import { RpcError, runtimeDomain } from '../errors/errors.ts';

/** A running process must not act on a saga of a version that it does not know; another process may. */
export const sagaVersionUnknown = ({ name, definitionVersion }: { name: string; definitionVersion: number }) =>
  new RpcError(
    'UNAVAILABLE',
    'DEPENDENCY_UNAVAILABLE',
    `saga ${name} has version ${definitionVersion}, which this process does not know; try again`,
    { domain: runtimeDomain, details: { retryDelayMs: 1_000 } },
  );
