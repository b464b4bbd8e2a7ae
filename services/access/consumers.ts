import { UserDeactivatedEvent, UserErasedEvent, UserReactivatedEvent } from '@armature/proto/identity/v1/contract.ts';
import { type Consumer, consume, rpcError } from '@armature/runtime';
import { userPattern } from '@armature/runtime/authz';
import type { AccessStore } from './store.ts';

/** Denies deactivated and erased accounts, and allows reactivated ones. Each event makes a version of the policy. */
export const consumers = (store: AccessStore): Consumer[] => [
  consume(UserDeactivatedEvent, ({ userId }, call, tx) => store.deny(tx, call, subjectOf(userId), 'deactivated')),
  consume(UserErasedEvent, ({ userId }, call, tx) => store.deny(tx, call, subjectOf(userId), 'erased')),
  consume(UserReactivatedEvent, ({ userId }, call, tx) => store.allow(tx, call, subjectOf(userId))),
];

/** No service accepts a policy with an invalid user id, so such an event is dead-lettered instead. */
function subjectOf(userId: string): string {
  const subject = `user:${userId}`;
  if (!userPattern.test(subject))
    throw rpcError('INVALID_ARGUMENT', 'USER_ID_INVALID', 'the user id has characters that no token can carry');
  return subject;
}
