import type { Decision } from '@armature/proto/access/v1/access.ts';
import { type CallContext, subjectOf } from '../context/call-context.ts';
import { newId } from '../id/id.ts';

/** Collects denials until they are taken; equal ones become one record with a count. */
export interface Denials {
  denied(call: CallContext, permission: string, reason: string, policyVersion: string): void;
  /** Returns all records, and starts empty again. */
  take(): Decision[];
  /** Puts records back that could not be stored. */
  restore(decisions: readonly Decision[]): void;
  readonly size: number;
}

const countMax = 2 ** 31 - 1;

/**
 * Collects at most `keysMax` different denials. Further ones are counted in one extra record that has only the count: a
 * denied caller must not be able to fill memory, table and log.
 */
export function denials(keysMax = 500): Denials {
  let pending = new Map<string, Decision>();
  let others: Decision | null = null;
  const add = (key: string, decision: Decision): void => {
    const same = pending.get(key);
    if (same) same.count = Math.min(same.count + decision.count, countMax);
    else if (pending.size < keysMax) pending.set(key, decision);
    else if (others) others.count = Math.min(others.count + decision.count, countMax);
    else others = unnamed(decision);
  };
  return {
    denied(call, permission, reason, policyVersion) {
      add(keyOf(call, permission, reason, policyVersion), decisionOf(call, { permission, reason, policyVersion }));
    },
    take() {
      const taken = others ? [...pending.values(), others] : [...pending.values()];
      pending = new Map();
      others = null;
      return taken;
    },
    restore(decisions) {
      for (const decision of decisions) add(decision.decisionId, decision);
    },
    get size() {
      return pending.size + (others ? 1 : 0);
    },
  };
}

function keyOf({ caller, name }: CallContext, permission: string, reason: string, policyVersion: string): string {
  const subject = caller.user ? subjectOf(caller.user) : '';
  return [caller.workload, subject, permission, name, policyVersion, reason].join('\n');
}

/** Makes the record of a decision about a call. With a reason the call was denied. */
export function decisionOf(
  { id, name, caller }: CallContext,
  { permission, policyVersion, reason = '' }: { permission: string; policyVersion: string; reason?: string },
): Decision {
  return {
    decisionId: newId(),
    service: '',
    workload: caller.workload ?? '',
    subject: caller.user ? subjectOf(caller.user) : '',
    permission,
    target: name,
    allowed: reason === '',
    reason,
    policyVersion,
    callId: id,
    count: 1,
    decideTime: new Date(),
  };
}

function unnamed({ policyVersion, count, decideTime }: Decision): Decision {
  const unattributed = { service: '', workload: '', subject: '', permission: '', target: '', callId: '' };
  const reason = 'others: more different denials at once than are recorded one by one';
  return { ...unattributed, decisionId: newId(), allowed: false, reason, policyVersion, count, decideTime };
}
