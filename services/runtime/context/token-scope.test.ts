import t from 'tap';
import { isInScope, tokenScopeOf } from './token-scope.ts';

t.test('a scope names permissions, beginnings of them, or all', async (t) => {
  for (const [scope, permission, is] of [
    ['all', 'orders.read', true],
    ['openid all', 'ops.sagas.read', true],
    ['orders.read', 'orders.read', true],
    ['orders.read', 'orders.place', false],
    ['orders', 'orders.place', true],
    ['ops.sagas', 'ops.sagas.read', true],
    ['ops', 'ops.sagas.read', true],
    ['ops.sagas', 'ops.dead_letters.read', false],
    ['order', 'orders.read', false],
    ['orders.', 'orders.read', false],
    ['orders.re', 'orders.read', false],
    ['orders.read.more', 'orders.read', false],
    ['ALL', 'orders.read', false],
    ['openid email profile', 'orders.read', false],
    ['catalog.read orders', 'orders.read', true],
    ['', 'orders.read', false],
  ] as const) {
    t.equal(isInScope(tokenScopeOf(scope), permission), is, `"${scope}" ${permission}`);
  }
});
