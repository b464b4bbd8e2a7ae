import type { Random } from './random.ts';

/** Text that stands for a password or a token: it must appear in no error. */
export const secretText = 'hunter2-do-not-print';

const throwing = (): never => {
  throw new Error(`no: ${secretText}`);
};

const hostile: readonly (() => unknown)[] = [
  () => new Proxy({}, { get: throwing, has: throwing, ownKeys: throwing, getPrototypeOf: throwing }),
  () => Object.defineProperty({}, 'then', { get: throwing, enumerable: true }),
  () => ({ toString: throwing, valueOf: throwing, toJSON: throwing, [Symbol.toPrimitive]: throwing }),
  () => Object.defineProperty(new Error(secretText), 'stack', { get: throwing }),
  () => Object.defineProperty(AbortSignal.abort(), 'reason', { get: throwing }),
  () => Object.defineProperty(new AbortController().signal, 'aborted', { get: throwing }),
  () => Object.create(null),
  () => {
    const circular: Record<string, unknown> = { name: 'circular' };
    circular.self = circular;
    circular.lines = [circular, [circular]];
    return circular;
  },
  () => Object.assign([], { map: throwing }),
  () => ({ length: -1, map: throwing, [Symbol.iterator]: throwing }),
];

const plain: readonly (() => unknown)[] = [
  () => undefined,
  () => null,
  () => true,
  () => 0,
  () => -1,
  () => 1.5,
  () => 2 ** 53,
  () => Number.MAX_VALUE,
  () => Number.NaN,
  () => Number.POSITIVE_INFINITY,
  () => Number.NEGATIVE_INFINITY,
  () => 1n,
  () => -(2n ** 70n),
  () => '',
  () => 'A',
  () => `${secretText}\n`,
  () => `\ud800 ${secretText}`,
  () => 'x'.repeat(100_000),
  () => Symbol(secretText),
  () => new Date(Number.NaN),
  () => new Date(0),
  () => new Uint8Array(3),
  () => new Map([['a', 1]]),
  () => /a/,
  () => () => secretText,
  () => async () => secretText,
  () => throwing,
  () => Promise.resolve(secretText),
  () => AbortSignal.abort(),
  () => AbortSignal.timeout(1),
  () => new AbortController().signal,
];

/**
 * Makes a value of any type, also objects whose getters throw. `keys` are the names of fields that are likely to be
 * read. Objects and arrays are at most `depth` deep.
 */
export function anything(random: Random, keys: readonly string[], depth = 3): unknown {
  const kind = random.weighted({ plain: 5, hostile: 2, object: depth > 0 ? 4 : 0, array: depth > 0 ? 2 : 0 });
  if (kind === 'plain') return random.pick(plain)();
  if (kind === 'hostile') return random.pick(hostile)();
  const parts = Array.from({ length: random.between(0, 4) }, () => anything(random, keys, depth - 1));
  if (kind === 'array') return parts;
  const made: Record<string, unknown> = {};
  for (const part of parts) {
    const key = random.pick(keys);
    const property = random.between(0, 9) === 0 ? { get: throwing } : { value: part };
    Object.defineProperty(made, key, { ...property, enumerable: true, configurable: true });
  }
  return made;
}
