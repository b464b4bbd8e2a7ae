import { UserDeactivatedEvent, UserErasedEvent, UserReactivatedEvent } from '@armature/proto/identity/v1/contract.ts';
import { type Consumer, consume, rpcError } from '@armature/runtime';
import { userPattern } from '@armature/runtime/authz';
import type { AccessStore } from './store.ts';

/** What happens to accounts decides about what they may; each event makes a version of the policy. */
export const consumers = (store: AccessStore): Consumer[] => [
  consume(UserDeactivatedEvent, ({ userId }, call, tx) => store.deny(tx, call, subjectOf(userId), 'deactivated')),
  consume(UserErasedEvent, ({ userId }, call, tx) => store.deny(tx, call, subjectOf(userId), 'erased')),
  consume(UserReactivatedEvent, ({ userId }, call, tx) => store.allow(tx, call, subjectOf(userId))),
];

/** An id that no token can carry would make a policy that no service takes: the event is set aside instead. */
function subjectOf(userId: string): string {
  const subject = `user:${userId}`;
  if (!userPattern.test(subject)) throw rpcError('INVALID_ARGUMENT', 'USER_ID_INVALID', 'not an id of a user');
  return subject;
}
