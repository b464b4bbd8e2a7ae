import { globSync } from 'node:fs';
import { join } from 'node:path';
import type { EventContract, ServiceContract } from '@armature/proto/contract.ts';
import { repository } from '../../scripts/devmesh/state.ts';
import { storingServices } from '../../services/manifest.ts';

/** A contract, and the name of the service that serves it. */
export interface Served {
  service: string;
  contract: ServiceContract;
  /** Whether each service with a database serves it, beside its own contract. */
  byEach?: boolean;
}

/** The packages of contracts that the runtime serves in each service. */
const packagesOfEach = new Set(['ops']);

/** Every generated contract, and every event that a service publishes. */
async function everyContract(): Promise<{ contracts: Served[]; events: EventContract[] }> {
  const contracts: Served[] = [];
  const events: EventContract[] = [];
  for (const file of globSync('proto/gen/armature/*/v1/contract.ts', { cwd: repository }).sort()) {
    const service = file.split('/').at(-3)!;
    const exported = Object.values((await import(join(repository, file))) as Record<string, unknown>);
    for (const contract of exported.filter(isContract)) {
      if (packagesOfEach.has(service))
        contracts.push(...storingServices.map((one) => ({ service: one, contract, byEach: true })));
      else contracts.push({ service, contract });
    }
    events.push(...exported.filter(isEvent));
  }
  if (contracts.length === 0) throw new Error('no contract is generated; run make gen');
  return { contracts, events };
}

function isContract(value: unknown): value is ServiceContract {
  return typeof value === 'object' && value !== null && 'methods' in value && 'consumes' in value;
}

function isEvent(value: unknown): value is EventContract {
  return typeof value === 'object' && value !== null && 'routingKey' in value;
}

/** Read from the generated files: a list kept by hand could omit one. */
export const { contracts, events } = await everyContract();
