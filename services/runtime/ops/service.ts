import type { ServiceContract } from '@armature/proto/contract.ts';
import { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import type { Database } from '../db/database.ts';
import type { BaselineSource, Messaging } from '../messaging/messaging.ts';
import type { Subscription } from '../messaging/topology.ts';
import { implement } from '../rpc/server.ts';
import type { SagaDefinition } from '../saga/definition.ts';
import { baselines } from './baselines.ts';
import { deadLetters } from './dead-letters.ts';
import { sagaOperations } from './sagas.ts';

/** The operations service, which every service offers for its own schema without knowing of it. */
export function opsService(parts: {
  service: string;
  db: Database;
  contracts: readonly ServiceContract[];
  sagas: readonly SagaDefinition[];
  messaging: Pick<Messaging, 'redrive' | 'checkRedrive' | 'publishBaselines'>;
  subscriptions: readonly Subscription[];
  baselineSources: readonly BaselineSource[];
}) {
  const { service, db, messaging, subscriptions } = parts;
  const { redrive, checkRedrive, publishBaselines: publish } = messaging;
  const events = parts.contracts.flatMap((contract) => contract.consumes);
  return implement(OpsServiceContract, {
    ...deadLetters({ db, redrive, checkRedrive, events }),
    ...baselines({ service, db, publish, subscriptions, sources: parts.baselineSources }),
    ...sagaOperations(db, parts.sagas),
  });
}
