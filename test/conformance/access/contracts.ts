import { globSync } from 'node:fs';
import { join } from 'node:path';
import type { ServiceContract } from '@armature/proto/contract.ts';
import { storingServices } from '../../../scripts/devmesh/services.ts';
import { repository } from '../../../scripts/devmesh/state.ts';

/** A contract, and the name of the service that serves it. */
export interface Served {
  service: string;
  contract: ServiceContract;
  /** Whether each service with a database serves it, beside its own contract. */
  byEach?: boolean;
}

/** The packages of contracts that the runtime serves in each service. */
const packagesOfEach = new Set(['ops']);

/** Every generated contract, read from the generated files: a list kept by hand could omit one. */
export async function everyContract(): Promise<Served[]> {
  const found: Served[] = [];
  for (const file of globSync('proto/gen/armature/*/v1/contract.ts', { cwd: repository }).sort()) {
    const service = file.split('/').at(-3)!;
    const exported = (await import(join(repository, file))) as Record<string, unknown>;
    for (const contract of Object.values(exported).filter(isContract)) {
      if (packagesOfEach.has(service))
        found.push(...storingServices.map((one) => ({ service: one, contract, byEach: true })));
      else found.push({ service, contract });
    }
  }
  if (found.length === 0) throw new Error('no contract is generated; run make gen');
  return found;
}

function isContract(value: unknown): value is ServiceContract {
  return typeof value === 'object' && value !== null && 'methods' in value && 'consumes' in value;
}
