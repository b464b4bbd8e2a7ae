// The mesh in which the conformance tests of this folder run, one file after the other.
import t from 'tap';
import { openShop } from '../../e2e/shop.ts';

t.setTimeout(280_000);
export const shop = await openShop(t);
