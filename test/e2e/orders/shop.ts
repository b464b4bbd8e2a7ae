// The shop in which the tests of orders run, one file after the other: starting it takes longer than most of them.
import t from 'tap';
import { shopServices } from '../../verification/faults/shoppers.ts';
import { openInvariantCheck } from '../invariant-check.ts';
import { openShop } from '../shop.ts';

t.setTimeout(280_000);
export const paymentsEnv = { ARMATURE_ACQUIRER_TIMEOUT_MS: '400' };
const settings = { payments: paymentsEnv, acquirer: { ARMATURE_ACQUIRER_SLOW_MS: '1200' } };
export const shop = await openShop(t, settings, shopServices);
t.afterEach(await openInvariantCheck(t, shop));
