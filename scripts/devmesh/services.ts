import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from './state.ts';

/** What the scripts know of a service: its preferred ports, and whether it has a database and a broker account. */
export interface ServicePlan {
  grpcPort?: number;
  adminPort?: number;
  httpPort?: number;
  stores: boolean;
}

export const servicePlans = {
  catalog: { grpcPort: 7401, adminPort: 7501, stores: true },
  inventory: { grpcPort: 7402, adminPort: 7502, stores: true },
  payments: { grpcPort: 7403, adminPort: 7503, httpPort: 7410, stores: true },
  orders: { grpcPort: 7404, adminPort: 7504, stores: true },
  notifications: { grpcPort: 7405, adminPort: 7505, stores: true },
  acquirer: { httpPort: 7406, stores: false },
  identity: { grpcPort: 7407, adminPort: 7507, httpPort: 7408, stores: true },
  access: { grpcPort: 7409, adminPort: 7509, stores: true },
} as const satisfies Record<string, ServicePlan>;

export type ServiceName = keyof typeof servicePlans;

export const serviceNames = Object.keys(servicePlans) as ServiceName[];

/** The services with a schema and a broker account. */
export const storingServices = serviceNames.filter((name) => servicePlans[name].stores);

/** Where the services' programs are; a test of the supervisor has programs of its own. */
const servicesDirectory = process.env.ARMATURE_SERVICES_DIR || join(repository, 'services');

export const mainFile = (name: string) => join(servicesDirectory, name, 'main.ts');

/** The services whose program is there; a checkout in the making may lack some. */
export function presentServices(): ServiceName[] {
  return serviceNames.filter((name) => existsSync(mainFile(name)));
}
