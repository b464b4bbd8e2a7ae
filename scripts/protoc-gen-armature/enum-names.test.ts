import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { OrderState } from '@armature/proto/orders/v1/orders.ts';
import t from 'tap';
import { root } from './buf.ts';
import { addEnumNames } from './enum-names.ts';

t.test('an enum object leads from numbers to names, in values and in types', async (t) => {
  const name: 'ORDER_STATE_PENDING' = OrderState[OrderState.ORDER_STATE_PENDING];
  t.equal(name, 'ORDER_STATE_PENDING');
  const state: OrderState = OrderState.ORDER_STATE_COMPLETED;
  t.equal(OrderState[state], 'ORDER_STATE_COMPLETED');
  t.equal(OrderState[OrderState.UNRECOGNIZED], 'UNRECOGNIZED');
});

t.test('of two names of one number the first counts', async (t) => {
  const module = 'export const E = {\n  A: 0,\n  B: 0,\n} as const;\n\nexport type E = typeof E[keyof typeof E];\n';
  t.match(addEnumNames(module), '  A: 0,\n  B: 0,\n  0: "A",\n} as const;');
});

t.test('every generated enum has its names', async (t) => {
  const modules = globSync('proto/gen/**/*.ts', { cwd: root });
  const incomplete = modules.filter((path) => {
    const module = readFileSync(join(root, path), 'utf8');
    const count = (text: string) => module.split(text).length - 1;
    return count('"-1": "UNRECOGNIZED"') !== count('UNRECOGNIZED: -1');
  });
  t.strictSame(incomplete, []);
});
