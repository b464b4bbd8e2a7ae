import { isDeepStrictEqual } from 'node:util';
import { RpcError } from '@armature/clients';
import type { Screen } from './screen.ts';

/** What should be true by now. Each is shown as it is looked at, and those that are not are named at the end. */
export interface Expectations {
  /** `found` must be `wanted`; big numbers and objects of them are fine. */
  that<T>(what: string, found: T, wanted: T): void;
  /** Something went so wrong that nothing more can be looked at. */
  gaveUp(what: string, error: unknown): void;
  /** What was not as expected. */
  broken(): readonly string[];
  count(): number;
}

export function expectations(screen: Screen): Expectations {
  const broken: string[] = [];
  let count = 0;
  const fault = (text: string) => {
    broken.push(text);
    screen.failed(text);
  };
  return {
    that(what, found, wanted) {
      count++;
      if (isDeepStrictEqual(found, wanted)) screen.passed(what);
      else fault(`${what}: expected ${show(wanted)}, found ${show(found)}`);
    },
    gaveUp(what, error) {
      count++;
      fault(`${what}: ${tell(error)}`);
    },
    broken: () => broken,
    count: () => count,
  };
}

const show = (value: unknown): string =>
  JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? Number(one) : one)) ?? 'nothing';

function tell(error: unknown): string {
  if (error instanceof RpcError) {
    const { from, code, reason, message, metadata } = error;
    const more = Object.entries(metadata).map(([name, value]) => `${name} ${value}`);
    return [`${from} ${code} ${reason}: ${message}`, ...more].join(', ');
  }
  return error instanceof Error ? error.message : String(error);
}
