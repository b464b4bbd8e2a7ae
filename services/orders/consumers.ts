import { UserErasedEvent } from '@armature/proto/identity/v1/contract.ts';
import { type Consumer, consume } from '@armature/runtime';
import type { ErasureStore } from './erasure-store.ts';

/** Remembers erased customers; a periodic job erases what their orders hold. An erasure is never undone. */
export const consumers = (erasures: ErasureStore): Consumer[] => [
  consume(UserErasedEvent, ({ userId }, _call, tx) => erasures.record(tx, userId), { orderIndependent: true }),
];
