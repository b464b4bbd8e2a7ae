import type { ServiceContract } from '@armature/proto/contract.ts';
import { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import type { Database } from '../db/database.ts';
import { implement } from '../rpc/server.ts';
import type { SagaDefinition } from '../saga/definition.ts';
import { deadLetters } from './dead-letters.ts';
import { sagaOperations } from './sagas.ts';

/** The operator's way out, which every service offers for its own schema without knowing of it. */
export function opsService(parts: {
  db: Database;
  contracts: readonly ServiceContract[];
  sagas: readonly SagaDefinition<any>[];
  redrive(id: string): Promise<'redriven' | 'already'>;
}) {
  const { db, redrive } = parts;
  const events = parts.contracts.flatMap((contract) => contract.consumes);
  return implement(OpsServiceContract, {
    ...deadLetters({ db, redrive, events }),
    ...sagaOperations(db, parts.sagas),
  });
}
