import type { Detector } from './mutation.ts';

/** Short runs of `make crash` that kill at the two places where a commit and what follows it part most easily. */
export const underFire: Detector = {
  kind: 'crash',
  seconds: 20,
  seed: 7,
  points: ['place-order.committed', 'reserve-stock.committed'],
};
