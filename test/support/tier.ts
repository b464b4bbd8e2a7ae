/**
 * Whether this run takes the long variants of tests too, as `make prove`, `make races` and `make mutants` do.
 * `make test` has one representative of each property.
 */
export const long = process.env.ARMATURE_TEST_TIER === 'long';

/** Size of a test: `brief` in `make test`, `thorough` in the long variant. */
export const amount = (brief: number, thorough: number): number => (long ? thorough : brief);
