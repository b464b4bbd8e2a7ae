import type { Decision as RecordedDecision } from '@armature/proto/access/v1/access.ts';
import type { CallContext } from '../context/call-context.ts';
import { contextKey } from '../context/keys.ts';
import type { CommitParticipant } from '../db/tx.ts';
import { insertDecisions } from './decisions.ts';
import type { Allowed } from './policy.ts';
import type { Scope } from './policy-text.ts';

const allowedBy = contextKey<Allowed | null>('decision that allowed the call', null);
const ownerChecked = contextKey('owner of the loaded resource compared with the caller', false);
const subjectOfData = contextKey<string | null>('person whose data the call is about', null);
const disclosure = contextKey<(() => Promise<void>) | null>('record of a read that precedes its response', null);
const toRecord = contextKey<RecordedDecision | null>('decision that the first transaction records', null);

/** What the decision allows: everything, or only the caller's own resources. Null until the call is authorized. */
export const scopeOf = (call: CallContext): Scope | null => call.get(allowedBy)?.scope ?? null;

/** The version of the policy that allowed this call; empty until the call is authorized. */
export const policyVersionOf = (call: CallContext): string => call.get(allowedBy)?.policyVersion ?? '';

/** Attaches the decision that allows a call. */
export const setAllowed = (call: CallContext, decision: Allowed): void => call.set(allowedBy, decision);

/**
 * Records that the owner of the loaded resource was compared with the caller, now or when a stored response was made.
 */
export const setOwnerChecked = (call: CallContext): void => call.set(ownerChecked, true);

/**
 * Records whose data a call is about: the owner of its resource. A handler calls it only where the contract names no
 * owner. Responses that are stored are erased with the account of that person.
 */
export const setDataSubject = (call: CallContext, userId: string): void => call.set(subjectOfData, userId || null);

/** The person whose data the call is about, as far as it is known by now. */
export const dataSubjectOf = (call: CallContext): string | null => call.get(subjectOfData);

/** Has `record` run once the handler has its first response, and before that is sent. */
export const recordBeforeResponse = (call: CallContext, record: () => Promise<void>): void =>
  call.set(disclosure, record);

/** Runs what must be recorded before the first response is sent. Where that fails, nothing may be sent. */
export async function recordDisclosure(call: CallContext): Promise<void> {
  const record = call.get(disclosure);
  call.set(disclosure, null);
  await record?.();
}

/** Whether a call with scope `own` has not compared the owner of its loaded resource with the caller yet. */
export const lacksOwnerCheck = (call: CallContext): boolean => scopeOf(call) === 'own' && !call.get(ownerChecked);

/** Has the first transaction of the call store this decision, so that every effect has its record. */
export const recordInTransaction = (call: CallContext, decision: RecordedDecision): void =>
  call.set(toRecord, decision);

/** The decision that the first transaction of the call is to record; null once it has. */
export const decisionToRecord = (call: CallContext): RecordedDecision | null => call.get(toRecord);

/** Writes the decision that allowed a call in the first transaction of the call that commits. */
export const decisionRecorder: CommitParticipant = {
  async beforeCommit(tx, call) {
    const decision = call.get(toRecord);
    if (!decision) return;
    await tx.em.flush();
    await insertDecisions(tx, [decision]);
  },
  committed: (_tx, call) => call.set(toRecord, null),
};
