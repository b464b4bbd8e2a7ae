/**
 * Whether this run takes the long variants of tests too, as `make prove`, `make races` and `make mutants` do.
 * `make test` has one representative of each property.
 */
export const long = process.env.ARMATURE_TEST_TIER === 'long';

/** Options of a test of which the short tier has another representative: `t.test(name, inLongTier, …)`. */
export const inLongTier = { skip: long ? false : 'in the long tier' };

/** Size of a test: `brief` in `make test`, `thorough` in the long variant. */
export const amount = (brief: number, thorough: number): number => (long ? thorough : brief);
