import {
  type CallContext,
  type Caller,
  compose,
  type Handler,
  type Interceptor,
  subjectOf,
} from '../context/call-context.ts';
import {
  permissionDenied,
  policyUnavailable,
  type RpcError,
  scopeInsufficient,
  targetNotAdministered,
  tokenMissing,
} from '../errors/errors.ts';
import { Counter, type Registry } from '../telemetry/metrics.ts';
import {
  dataSubjectOf,
  lacksOwnerCheck,
  policyVersionOf,
  recordBeforeResponse,
  recordInTransaction,
  scopeOf,
  setAllowed,
  setDataSubject,
  setOwnerChecked,
} from './authorization.ts';
import { type Denials, decisionOf } from './denials.ts';
import type { Decision, Denied } from './policy.ts';

/** Decides whether a caller has a permission, see Policy.decide; null while no policy can be trusted. */
export type Decide = (caller: Caller, permission: string, target?: string) => Decision | null;

export function decisionCounter(registry: Registry): Counter<'permission' | 'decision'> {
  return new Counter({
    name: 'armature_authz_decisions_total',
    help: 'Authorization decisions',
    labelNames: ['permission', 'decision'],
    registers: [registry],
  });
}

/** The permission that a method or an event requires of its caller, and how that is checked. */
export interface AccessRule {
  readonly permission: string;
  // biome-ignore lint/suspicious/noExplicitAny: reads the field of one message type, chosen by the contract
  readonly owner: { kind: 'field'; read: (message: any) => string } | { kind: 'loaded' } | null;
  /** The account that the method changes. */
  // biome-ignore lint/suspicious/noExplicitAny: as above
  readonly target: { kind: 'user' | 'client'; read: (message: any) => string } | null;
  /** Whether decisions that allow are recorded too. */
  readonly audit: boolean;
  /** Whether responses with data of another person are recorded. */
  readonly auditOthers?: boolean;
}

const refusals: Readonly<Record<Denied['lacks'], (permission: string) => RpcError>> = {
  permission: permissionDenied,
  token: tokenMissing,
  scope: scopeInsufficient,
  target: targetNotAdministered,
};

export interface AuthorizeOptions {
  /** Read the message of the call. They run after the decision, so that the message of a refused call is not read. */
  read?: readonly Interceptor[];
  /** Commits a transaction that has only the records of the call. */
  commit?: (call: CallContext) => Promise<void>;
}

/**
 * Lets a call through only when policy allows it, and records denials. A first decision needs no message. With the
 * message it is checked whether the caller may change the account that it names, and whether the scope "own" has its
 * owner in a field; otherwise the handler compares the owner of what it has loaded. A handler that does not fails the
 * call.
 */
export function authorize(
  rule: AccessRule,
  decide: Decide,
  counter: Counter<'permission' | 'decision'>,
  denials: Pick<Denials, 'denied'>,
  { read = [], commit }: AuthorizeOptions = {},
): Interceptor {
  const { permission, owner, target } = rule;
  const { refuse, unavailable, allow } = outcomes(rule, counter, denials, commit);
  const refuseOwn = (call: CallContext, reason: string) =>
    refuse(call, { reason, lacks: 'permission', policyVersion: policyVersionOf(call) });
  return (next) => {
    const decideWithMessage: Handler = (call) => {
      if (target) {
        const decision = decide(call.caller, permission, `${target.kind}:${target.read(call.message)}`);
        if (!decision) return unavailable();
        if (!decision.allowed) return refuse(call, decision);
        setAllowed(call, decision);
      }
      const own = scopeOf(call) === 'own';
      if (own && owner?.kind === 'field' && owner.read(call.message) !== call.caller.user?.subject)
        return refuseOwn(call, 'not the owner');
      allow(call);
      if (!own || owner?.kind !== 'loaded') return next(call);
      return next(call).then((reply) => {
        if (lacksOwnerCheck(call)) throw new Error(`${call.name} responded without checking the owner`);
        return reply;
      });
    };
    const proceed = compose(read, decideWithMessage);
    return (call) => {
      const decision = decide(call.caller, permission);
      if (!decision) return unavailable();
      if (!decision.allowed) return refuse(call, decision);
      setAllowed(call, decision);
      if (decision.scope === 'own' && !owner)
        return refuseOwn(call, 'only own things are allowed, and these have no owner');
      return proceed(call);
    };
  };
}

/** What comes of a decision: an error, or the records that the rule asks for. */
function outcomes(
  { permission, owner, audit, auditOthers }: AccessRule,
  counter: Counter<'permission' | 'decision'>,
  denials: Pick<Denials, 'denied'>,
  commit: AuthorizeOptions['commit'],
) {
  const allowed = counter.labels({ permission, decision: 'allow' });
  const denied = counter.labels({ permission, decision: 'deny' });
  return {
    refuse(call: CallContext, { reason: cause, lacks, policyVersion }: Omit<Denied, 'allowed'>): Promise<never> {
      denied.inc();
      denials.denied(call, permission, cause, policyVersion);
      const { workload, user } = call.caller;
      call.log.info({ permission, cause, workload, user: user ? subjectOf(user) : undefined }, 'denied');
      // The publisher of an event has no token to send.
      const lacking = lacks === 'token' && call.kind !== 'server' ? 'permission' : lacks;
      return Promise.reject(refusals[lacking](permission));
    },
    unavailable(): Promise<never> {
      denied.inc();
      return Promise.reject(policyUnavailable());
    },
    allow(call: CallContext): void {
      const policyVersion = policyVersionOf(call);
      allowed.inc();
      if (owner?.kind === 'field') setDataSubject(call, owner.read(call.message));
      if (auditOthers && commit) auditDisclosure(call, { permission, policyVersion, commit });
      if (audit) recordInTransaction(call, decisionOf(call, { permission, policyVersion }));
    },
  };
}

/**
 * Whether the caller may act on a loaded resource of this owner. Every handler whose contract says `owner: {loaded:
 * true}` must call this before it responds, and must respond to other callers as if the resource did not exist.
 */
export function ownsOrCanAccessAny(call: CallContext, ownerId: string): boolean {
  setOwnerChecked(call);
  setDataSubject(call, ownerId);
  const scope = scopeOf(call);
  return scope === 'any' || (scope === 'own' && call.caller.user?.subject === ownerId);
}

/**
 * Records that a person or a program reads data of another person, before the response is sent. Services that read on
 * their own account are not recorded.
 */
function auditDisclosure(
  call: CallContext,
  rule: { permission: string; policyVersion: string; commit: (call: CallContext) => Promise<void> },
): void {
  const { user } = call.caller;
  if (!user) return;
  recordBeforeResponse(call, async () => {
    const about = dataSubjectOf(call);
    if (about === user.subject) return;
    const decision = decisionOf(call, rule);
    recordInTransaction(call, about ? { ...decision, target: `${decision.target} of user:${about}` } : decision);
    await rule.commit(call);
  });
}
