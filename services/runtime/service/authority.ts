import type { Decision } from '@armature/proto/access/v1/access.ts';
import { AccessServiceContract } from '@armature/proto/access/v1/contract.ts';
import { type Decide, decisionCounter } from '../authz/authorize.ts';
import { type DecisionLog, decisionLog, type SendDecisions } from '../authz/decision-log.ts';
import { type Denials, denials } from '../authz/denials.ts';
import type { PolicySource } from '../authz/policy-source.ts';
import type { Config, runtimeVariables } from '../config/config.ts';
import type { Background } from '../context/background.ts';
import type { CallContext } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import type { ClientFactory } from '../rpc/client-factory.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Registry } from '../telemetry/metrics.ts';
import { openTrust, type Trust } from './trust.ts';

export interface AuthorityOptions {
  service: string;
  config: Config<typeof runtimeVariables>;
  log: Logger;
  registry: Registry;
  db: Database;
  background: Background;
  clients: ClientFactory;
  /** Set by the service that stores the policy and the decisions itself. */
  own: {
    policy?: PolicySource;
    recordDecisions?: (call: CallContext, decisions: readonly Decision[]) => Promise<void>;
  };
}

/** The authorization of a service: policy, keys, and the log of its decisions. */
export interface Authority extends Pick<Trust, 'policy' | 'keys' | 'waitingFor'>, Pick<DecisionLog, 'periodicJobs'> {
  readonly decide: Decide;
  readonly decisions: ReturnType<typeof decisionCounter>;
  readonly denials: Denials;
  /** Stores the last denials. Called when there are no more calls, and before the database closes. */
  stop(): Promise<void>;
}

/** Throws ConfigError when the configuration does not say where policy and keys come from. */
export async function openAuthority(options: AuthorityOptions): Promise<Authority> {
  const { service, config, log, registry, db, clients, own } = options;
  const trust = await openTrust({
    service,
    config,
    log,
    registry,
    policy: own.policy,
    connectAccess: (contract) => clients.open(contract, 'access', config.accessAddresses),
  });
  const denied = denials();
  const record = decisionLog({ service, db, denials: denied, send: sender(options), registry });
  return {
    policy: trust.policy,
    keys: trust.keys,
    waitingFor: trust.waitingFor,
    periodicJobs: record.periodicJobs,
    decide: (caller, permission, target) => trust.policy.current()?.decide(caller, permission, target) ?? null,
    decisions: decisionCounter(registry),
    denials: denied,
    async stop() {
      await lastDenials(record, options.background, log);
      await trust.stop();
    },
  };
}

/** The target of recorded decisions: access, or in access itself its own table. */
function sender({ own: { recordDecisions }, config, clients }: AuthorityOptions): SendDecisions | null {
  if (recordDecisions) return (call, _requestId, decisions) => recordDecisions(call, decisions);
  if (config.accessAddresses.length === 0) return null;
  const access = clients.connect(AccessServiceContract, 'access', config.accessAddresses);
  return async (call, requestId, decisions) => {
    await access.recordDecisions({ requestId, decisions: [...decisions] }, { parent: call });
  };
}

/** A failure here does not fail the stop of the service. */
async function lastDenials(record: DecisionLog, background: Background, log: Logger): Promise<void> {
  const call = background('last denials', 2_000);
  try {
    await record.flush(call);
  } catch (error) {
    log.warn({ err: error }, 'the last denials were not recorded');
  } finally {
    call.close();
  }
}
